//! The gateway as its users have it: the binary, as a process, on addresses of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, kill_process_group, prlimit};
use tokio::net::TcpSocket;

use crate::client::{Answer, Client};
use crate::manifests::Manifests;
use crate::wait;

/// A running gateway. It is killed when it is dropped, with its successors.
pub struct Gateway {
    addresses: Addresses,
    process: Mutex<Child>,
    output: Lines,
    log: Lines,
}

/// Where a gateway listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// HTTP.
    pub http: SocketAddr,
    /// HTTPS.
    pub https: SocketAddr,
    /// Probes and metrics.
    pub status: SocketAddr,
    /// The operator's endpoint.
    pub admin: SocketAddr,
}

/// The lines that a process has written so far.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Addresses {
    /// Addresses that nobody else uses: a loopback address of this test, and ports that the kernel gives to nobody who
    /// does not ask for them. An upstream on such a port of another loopback address would be taken for the gateway.
    #[must_use]
    pub fn reserve() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let process = u8::try_from(std::process::id() % 250).unwrap() + 2;
        let ip = Ipv4Addr::new(127, process, high, low);
        let mut free = free_addresses(ip);
        let [http, https, status, admin] = [(); 4].map(|()| free.next().unwrap());
        Self { http, https, status, admin }
    }

    /// A port of the gateway's address on which nobody listens yet. Another call finds another one when somebody does.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn spare(&self) -> SocketAddr {
        let IpAddr::V4(ip) = self.http.ip() else { panic!("{} is no IPv4 address", self.http) };
        let own = [self.http, self.https, self.status, self.admin];
        free_addresses(ip).find(|address| !own.contains(address)).unwrap()
    }

    /// The flags that name them.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let Self { http, https, status, admin } = self;
        vec![
            format!("--http={http}"),
            format!("--https={https}"),
            format!("--status={status}"),
            format!("--admin={admin}"),
        ]
    }
}

impl Gateway {
    /// Starts a gateway on a directory of manifests and waits until it is ready. Flags come on top.
    ///
    /// # Panics
    /// When it does not become ready; its log is in the text.
    pub async fn start(manifests: &Manifests, flags: &[&str]) -> Self {
        let gateway = Self::spawn(Addresses::reserve(), manifests.path(), flags);
        gateway.wait_until_ready().await;
        gateway
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it ends before; its log is in the text.
    pub async fn wait_until_ready(&self) {
        let is_ready = async || {
            assert!(self.exit_status().is_none(), "the gateway ended:\n{}", self.log.text());
            self.try_status("/readyz").await.is_some_and(|answer| answer.status == 200).then_some(())
        };
        wait::until("the gateway is ready", is_ready).await;
    }

    /// Starts a gateway and waits for nothing. Without a lame duck, unless the flags say otherwise.
    #[must_use]
    pub fn spawn(addresses: Addresses, manifests: &Path, flags: &[&str]) -> Self {
        Self::spawn_with_output(Stdio::piped(), addresses, manifests, flags)
    }

    /// Starts a gateway on a cluster and waits for nothing.
    #[must_use]
    pub fn spawn_on(kubeconfig: &Path, flags: &[&str]) -> Self {
        Self::spawn_on_with_environment(&[], kubeconfig, flags)
    }

    /// The same with environment variables on top.
    #[must_use]
    pub fn spawn_on_with_environment(environment: &[(&str, &str)], kubeconfig: &Path, flags: &[&str]) -> Self {
        let addresses = Addresses::reserve();
        let mut command = Command::new(binary());
        command.arg("run").arg("--kubeconfig").arg(kubeconfig).args(addresses.flags());
        command.envs(environment.iter().copied());
        Self::launch(with_flags(command, flags), Stdio::piped(), addresses)
    }

    /// Starts a gateway on a cluster and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready; its log is in the text.
    pub async fn start_on(kubeconfig: &Path, flags: &[&str]) -> Self {
        let gateway = Self::spawn_on(kubeconfig, flags);
        gateway.wait_until_ready().await;
        gateway
    }

    /// The same with a standard output of the test's own, such as one that nobody reads.
    #[must_use]
    pub fn spawn_with_output(output: Stdio, addresses: Addresses, manifests: &Path, flags: &[&str]) -> Self {
        Self::launch(Self::run(addresses, manifests, flags), output, addresses)
    }

    /// The same with environment variables on top.
    #[must_use]
    pub fn spawn_with_environment(
        environment: &[(&str, &str)],
        addresses: Addresses,
        manifests: &Path,
        flags: &[&str],
    ) -> Self {
        let mut command = Self::run(addresses, manifests, flags);
        command.envs(environment.iter().copied());
        Self::launch(command, Stdio::piped(), addresses)
    }

    fn run(addresses: Addresses, manifests: &Path, flags: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("run").arg("--manifests").arg(manifests).args(addresses.flags());
        with_flags(command, flags)
    }

    /// The same as the child of `gateway supervise`.
    #[must_use]
    pub fn supervised(addresses: Addresses, manifests: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(["supervise", "--", "run", "--manifests"]).arg(manifests).args(addresses.flags()).args(flags);
        Self::launch(command, Stdio::piped(), addresses)
    }

    /// The same by a program that takes the flags of `run` without that word, as ingress-nginx's does.
    #[must_use]
    pub fn spawn_program(
        program: &Path,
        environment: &[(&str, &str)],
        addresses: Addresses,
        manifests: &Path,
        flags: &[&str],
    ) -> Self {
        let mut command = Command::new(program);
        command.arg("--manifests").arg(manifests).args(addresses.flags()).args(flags);
        command.envs(environment.iter().copied());
        Self::launch(command, Stdio::piped(), addresses)
    }

    /// Starts the demo and waits for nothing.
    #[must_use]
    pub fn demo(addresses: Addresses) -> Self {
        let mut command = Command::new(binary());
        command.arg("demo").args(addresses.flags());
        Self::launch(command, Stdio::piped(), addresses)
    }

    fn launch(mut command: Command, output: Stdio, addresses: Addresses) -> Self {
        // Its successors are of the same group, wherever they are in the tree of processes.
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (output, log) = (Lines::default(), Lines::default());
        if let Some(stdout) = process.stdout.take() {
            output.follow(stdout);
        }
        log.follow(process.stderr.take().unwrap());
        Self { addresses, process: Mutex::new(process), output, log }
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// A connection of each kind; those with TLS ask for the host.
    pub async fn clients(&self, host: &str) -> [Client; 4] {
        let Addresses { http, https, .. } = self.addresses;
        [
            Client::http1(http).await,
            Client::h2c(http).await,
            Client::https1(https, Some(host)).await,
            Client::https2(https, Some(host)).await,
        ]
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.lock().unwrap().id()
    }

    /// The most memory that it has held at a time, in bytes.
    #[must_use]
    pub fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    }

    /// Asks for a URL on a new connection: HTTP/1.1, TLS with the host as SNI for `https`. The port is the gateway's.
    pub async fn get(&self, url: &str) -> Answer {
        self.get_with(url, &[]).await
    }

    /// The same, with headers on top.
    pub async fn get_with(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (host, target) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let name = host.split(':').next().unwrap();
        let mut client = match scheme {
            "https" => Client::https1(self.addresses.https, Some(name)).await,
            _ => Client::http1(self.addresses.http).await,
        };
        client.get(host, target, headers).await
    }

    /// Waits until a URL is answered as wanted, and returns that answer.
    ///
    /// # Panics
    /// When it is not; the last answer is in the text.
    pub async fn wait_for(&self, url: &str, is_wanted: impl Fn(&Answer) -> bool) -> Answer {
        let what = format!("the wanted answer for {url}; log:\n{}", self.log.text());
        wait::until(&what, async || Some(self.get(url).await).filter(&is_wanted)).await
    }

    /// Asks the status endpoint.
    pub async fn status(&self, target: &str) -> Answer {
        self.try_status(target).await.unwrap()
    }

    /// Asks the status endpoint, which may not be there.
    pub async fn try_status(&self, target: &str) -> Option<Answer> {
        let stream = tokio::net::TcpStream::connect(self.addresses.status).await.ok()?;
        let mut client = Client::over(stream, None, http::Version::HTTP_11).await;
        let request = client.request("GET", &self.addresses.status.to_string(), target, &[], "");
        client.try_send(request).await.ok()
    }

    /// Asks the admin endpoint.
    pub async fn admin(&self, target: &str) -> Answer {
        let mut client = Client::http1(self.addresses.admin).await;
        client.get(&self.addresses.admin.to_string(), target, &[]).await
    }

    /// The sum of a metric over the series whose text contains all of `labels`; 0 without one.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.status("/metrics").await.text();
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Sets how many file descriptors it may have, and how many it may have at most.
    pub fn limit_descriptors(&self, current: u64, maximum: u64) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap());
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum: Some(maximum) }).unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// How the process ended, if it has.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.process.lock().unwrap().try_wait().unwrap()
    }

    /// Waits until the process has ended.
    pub async fn wait_for_exit(&self) -> ExitStatus {
        wait::until("the gateway ends", async || self.exit_status()).await
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// The access log so far.
    #[must_use]
    pub fn access_log(&self) -> Vec<String> {
        self.output.0.lock().unwrap().clone()
    }

    /// Waits for a line of the log with all of the words, and returns it.
    pub async fn wait_for_log(&self, words: &[&str]) -> String {
        self.log.wait_for(words).await
    }

    /// Waits for a line of the access log with all of the words, and returns it.
    pub async fn wait_for_access_log(&self, words: &[&str]) -> String {
        self.output.wait_for(words).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap();
        // It may have ended already, and successors may live on.
        let _ = kill_process_group(Pid::from_child(process), Signal::KILL);
        let _ = process.wait();
    }
}

impl Lines {
    fn follow(&self, stream: impl Read + Send + 'static) {
        let lines = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    async fn wait_for(&self, words: &[&str]) -> String {
        let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
        let find = || self.0.lock().unwrap().iter().find(has_all).cloned();
        wait::until(&format!("a line with {words:?}"), async || find()).await
    }
}

/// Addresses on which nobody listens, with ports below the range of `ip_local_port_range`.
///
/// They are tried by sockets that do not listen either: a process that another test starts in that moment holds copies of
/// them until it runs its program, and a copy that listened would be in the way of who gets the address.
pub(crate) fn free_addresses(ip: Ipv4Addr) -> impl Iterator<Item = SocketAddr> {
    let is_free = |address: &SocketAddr| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(*address).is_ok()
    };
    (10_000..30_000).map(move |port| SocketAddr::from((ip, port))).filter(is_free)
}

/// Flags of a test, over those that make a gateway leave soon.
fn with_flags(mut command: Command, flags: &[&str]) -> Command {
    for (flag, value) in [("--lame-duck", "0s"), ("--drain-timeout", "20s")] {
        if !flags.iter().any(|given| given.starts_with(flag)) {
            command.args([flag, value]);
        }
    }
    command.args(flags);
    command
}

/// Runs a command of the gateway to its end.
#[must_use]
pub fn command(arguments: &[&str]) -> Output {
    command_with(arguments, &[])
}

/// The same, with environment variables on top.
#[must_use]
pub fn command_with(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(binary()).args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

/// The binary of this build: `cargo build --workspace --bins --tests` makes it beside the tests.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.ancestors().nth(2).unwrap().join("gateway");
    assert!(binary.exists(), "{} is not there: cargo build --workspace --bins --tests", binary.display());
    binary
}
