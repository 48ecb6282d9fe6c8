//! Stock nginx as a process of the test's own: what its directives do, the annotations named after them have to do.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::gateway::Addresses;
use crate::wait;

/// A running nginx. It is killed when it is dropped.
pub struct Nginx {
    address: SocketAddr,
    process: Child,
    _directory: TempDir,
}

impl Nginx {
    /// Starts nginx with directives for its `http` block, in which `LISTEN` stands for an address of its own and
    /// `DIRECTORY` for its directory; the files are written there.
    ///
    /// # Panics
    /// When it does not listen; what it says is in the text.
    pub async fn start(http: &str, files: &[(&str, &str)]) -> Self {
        let address = Addresses::reserve().http;
        let directory = TempDir::new().unwrap();
        let path = directory.path().display().to_string();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
            .collect();
        let http = http.replace("LISTEN", &address.to_string()).replace("DIRECTORY", &path);
        // One process: the one that is killed.
        let configuration = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr; events {{ worker_connections 256; }}
             http {{ access_log off; {temporary} {http} }}\n"
        );
        std::fs::write(directory.path().join("nginx.conf"), &configuration).unwrap();
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-c"]).arg(directory.path().join("nginx.conf"));
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let process = process.unwrap_or_else(|error| panic!("tests/run setup installs nginx: {error}"));
        let mut nginx = Self { address, process, _directory: directory };
        let is_ready = async || {
            let log = format!("{path}/log");
            let ended = nginx.process.try_wait().unwrap();
            assert!(ended.is_none(), "nginx ended: {}", std::fs::read_to_string(log).unwrap());
            tokio::net::TcpStream::connect(address).await.ok().map(drop)
        };
        wait::until("nginx listens", is_ready).await;
        nginx
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
