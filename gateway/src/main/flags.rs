//! What can be said on the command line, and the spellings of ingress-nginx's Go flags.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use gateway::AccessLogFormat;
use translate::ServiceRef;

use super::cluster::ClusterFlags;
use super::values;

/// Penstock: the edge gateway for Kubernetes.
#[derive(Parser)]
#[command(name = "gateway", version, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serves traffic, by the objects of a Kubernetes cluster or by the manifests of a directory
    Run(Box<RunFlags>),
    /// Serves example manifests with echo backends on 127.0.0.1:8080 and :8443, and prints what to try
    Demo(DemoFlags),
    /// Validates manifests: file, line, object, reason. Exits 0 when clean, 1 with problems
    Check(CheckFlags),
    /// Tells which route takes a request, and why the others do not. Exits 1 when none does
    Explain(ExplainFlags),
    /// Prints what manifests are translated to
    Translate(TranslateFlags),
    /// Asks the running gateway to hand over to a new process. Exits 0 when it has, 1 when the old one serves on
    Upgrade(UpgradeFlags),
    /// The first process of a container: starts `gateway run`, hands signals on to it (SIGUSR2 upgrades it), reaps
    Supervise(SuperviseFlags),
    /// For readiness probes of pods that hand over to each other. Exits 0 when a gateway of this container serves
    Probe(ProbeFlags),
    /// For their init containers: makes the directory of the hand-over socket, for one user only
    Prepare(PrepareFlags),
}

#[derive(Args)]
pub(crate) struct RunFlags {
    /// File or directory with manifests, watched for changes (repeatable); without it, Kubernetes is the source
    #[arg(long, value_name = "PATH", env = "PENSTOCK_MANIFESTS", value_delimiter = ',')]
    pub(crate) manifests: Vec<PathBuf>,
    /// Address for HTTP (repeatable)
    #[arg(long, value_name = "ADDR", env = "PENSTOCK_HTTP", value_delimiter = ',', default_value = "0.0.0.0:80")]
    pub(crate) http: Vec<SocketAddr>,
    /// Address for HTTPS (repeatable)
    #[arg(long, value_name = "ADDR", env = "PENSTOCK_HTTPS", value_delimiter = ',', default_value = "0.0.0.0:443")]
    pub(crate) https: Vec<SocketAddr>,
    /// Address for probes and Prometheus: /healthz, /readyz, /metrics
    #[arg(long, value_name = "ADDR", env = "PENSTOCK_STATUS", default_value = "0.0.0.0:10254")]
    pub(crate) status: SocketAddr,
    /// Address for the operator: /nginx_status, /snapshot, /explain
    #[arg(long, value_name = "ADDR", env = "PENSTOCK_ADMIN", default_value = "127.0.0.1:10246")]
    pub(crate) admin: SocketAddr,
    /// After SIGTERM, how long to go on accepting while the readiness probe fails
    #[arg(long, value_name = "DURATION", env = "PENSTOCK_LAME_DUCK", default_value = "10s", value_parser = values::duration)]
    pub(crate) lame_duck: Duration,
    /// How long open requests may take to end after that
    #[arg(long, value_name = "DURATION", env = "PENSTOCK_DRAIN_TIMEOUT", default_value = "240s", value_parser = values::duration)]
    pub(crate) drain_timeout: Duration,
    /// Threads that carry traffic; as many as there are processors by default
    #[arg(long, value_name = "N", env = "PENSTOCK_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Form of the access log on the standard output
    #[arg(long, value_name = "FORM", env = "PENSTOCK_ACCESS_LOG", default_value = "text")]
    pub(crate) access_log: AccessLogFlag,
    #[command(flatten)]
    pub(crate) handoff: HandoffFlags,
    #[command(flatten)]
    pub(crate) meaning: MeaningFlags,
    #[command(flatten, next_help_heading = "Kubernetes")]
    pub(crate) cluster: ClusterFlags,
}

/// Flags about hand-overs between processes.
#[derive(Args)]
pub(crate) struct HandoffFlags {
    /// Unix socket for hand-overs: takes over from a gateway that listens there, and hands over to the next one
    #[arg(long, value_name = "PATH", env = "PENSTOCK_HANDOFF_SOCKET")]
    pub(crate) handoff_socket: Option<PathBuf>,
    /// How long a new process may take from its start until it is prepared to take over
    #[arg(long, value_name = "DURATION", env = "PENSTOCK_HANDOFF_TIMEOUT", default_value = "60s", value_parser = values::duration)]
    pub(crate) handoff_timeout: Duration,
    /// How long a new process serves before the old one, which can come back until then, leaves
    #[arg(long, value_name = "DURATION", env = "PENSTOCK_HANDOFF_PROBATION", default_value = "5s", value_parser = values::duration)]
    pub(crate) handoff_probation: Duration,
}

#[derive(Args)]
pub(crate) struct UpgradeFlags {
    /// Unix socket of the running gateway
    #[arg(long, value_name = "PATH", env = "PENSTOCK_HANDOFF_SOCKET")]
    pub(crate) handoff_socket: PathBuf,
    /// Program of the new process; by default what is now where the running one was started from
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ProbeFlags {
    /// Unix socket of the gateways
    #[arg(long, value_name = "PATH", env = "PENSTOCK_HANDOFF_SOCKET")]
    pub(crate) handoff_socket: PathBuf,
}

#[derive(Args)]
pub(crate) struct PrepareFlags {
    /// Unix socket of the gateways
    #[arg(long, value_name = "PATH", env = "PENSTOCK_HANDOFF_SOCKET")]
    pub(crate) handoff_socket: PathBuf,
    /// Number of the user that the gateways run as
    #[arg(long, value_name = "UID")]
    pub(crate) user: u32,
}

#[derive(Args)]
pub(crate) struct SuperviseFlags {
    /// The command of the gateway: run and its flags
    #[arg(value_name = "COMMAND", required = true, last = true)]
    pub(crate) command: Vec<OsString>,
}

/// Flags that say what objects mean. They are ingress-nginx's own.
#[derive(Args, Clone)]
pub(crate) struct MeaningFlags {
    /// ConfigMap with the global settings
    #[arg(long, value_name = "NS/NAME", env = "PENSTOCK_CONFIGMAP", value_parser = values::object)]
    pub(crate) configmap: Option<(String, String)>,
    /// ConfigMap with services of TCP: a key is a port, its value namespace/service:port[:PROXY][:PROXY]
    #[arg(long, value_name = "NS/NAME", env = "PENSTOCK_TCP_SERVICES_CONFIGMAP", value_parser = values::object)]
    pub(crate) tcp_services_configmap: Option<(String, String)>,
    /// ConfigMap with services of UDP: a key is a port, its value namespace/service:port
    #[arg(long, value_name = "NS/NAME", env = "PENSTOCK_UDP_SERVICES_CONFIGMAP", value_parser = values::object)]
    pub(crate) udp_services_configmap: Option<(String, String)>,
    /// Value of the annotation kubernetes.io/ingress.class, and name of the class, that are served
    #[arg(long, value_name = "NAME", env = "PENSTOCK_INGRESS_CLASS", default_value = "nginx")]
    pub(crate) ingress_class: String,
    /// Controller of the IngressClasses that are served
    #[arg(
        long,
        value_name = "NAME",
        env = "PENSTOCK_CONTROLLER_CLASS",
        default_value = "penstock.dev/ingress",
        overrides_with = "controller_class"
    )]
    pub(crate) controller_class: String,
    /// Serves an IngressClass by its name, whatever its controller
    #[arg(long, env = "PENSTOCK_INGRESS_CLASS_BY_NAME", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set)]
    pub(crate) ingress_class_by_name: bool,
    /// Prefix of annotations, in place of nginx.ingress.kubernetes.io
    #[arg(
        long,
        value_name = "PREFIX",
        env = "PENSTOCK_ANNOTATIONS_PREFIX",
        default_value = "nginx.ingress.kubernetes.io"
    )]
    pub(crate) annotations_prefix: String,
    /// Secret with the certificate for names that no host claims
    #[arg(long, value_name = "NS/NAME", env = "PENSTOCK_DEFAULT_SSL_CERTIFICATE", value_parser = values::object)]
    pub(crate) default_ssl_certificate: Option<(String, String)>,
    /// Service for requests that nobody claims
    #[arg(long, value_name = "NS/NAME[:PORT]", env = "PENSTOCK_DEFAULT_BACKEND_SERVICE", value_parser = values::service)]
    pub(crate) default_backend_service: Option<ServiceRef>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessLogFlag {
    Off,
    Text,
    Json,
}

#[derive(Args)]
pub(crate) struct DemoFlags {
    /// Address for HTTP
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) http: SocketAddr,
    /// Address for HTTPS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub(crate) https: SocketAddr,
    /// Address for probes and Prometheus
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:10254")]
    pub(crate) status: SocketAddr,
    /// Address for the operator
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:10246")]
    pub(crate) admin: SocketAddr,
}

#[derive(Args)]
pub(crate) struct CheckFlags {
    /// Files and directories with manifests
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Form of the report
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: OutputFlag,
    #[command(flatten)]
    pub(crate) meaning: MeaningFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFlag {
    Text,
    Json,
}

#[derive(Args)]
pub(crate) struct ExplainFlags {
    /// Method of the request
    #[arg(short = 'X', long = "request", value_name = "METHOD", default_value = "GET")]
    pub(crate) method: String,
    /// Header of the request, as `Name: value` (repeatable)
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub(crate) headers: Vec<String>,
    /// URL of the request
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Manifests to ask (repeatable)
    #[arg(long, value_name = "PATH", required_unless_present = "admin", conflicts_with = "admin")]
    pub(crate) manifests: Vec<PathBuf>,
    /// Admin endpoint of a running gateway to ask, such as http://127.0.0.1:10246
    #[arg(long, value_name = "URL")]
    pub(crate) admin: Option<String>,
    /// Form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: OutputFlag,
    #[command(flatten)]
    pub(crate) meaning: MeaningFlags,
}

#[derive(Args)]
pub(crate) struct TranslateFlags {
    /// Files and directories with manifests
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// What to translate to: the model, or manifests of the current API version
    #[arg(long, value_name = "TARGET", default_value = "model")]
    pub(crate) to: TargetFlag,
    #[command(flatten)]
    pub(crate) meaning: MeaningFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetFlag {
    Model,
    #[value(name = "networking.k8s.io/v1")]
    CurrentIngress,
}

impl AccessLogFlag {
    pub(crate) fn format(self) -> Option<AccessLogFormat> {
        match self {
            Self::Off => None,
            Self::Text => Some(AccessLogFormat::Text),
            Self::Json => Some(AccessLogFormat::Json),
        }
    }
}

/// Flags of ingress-nginx that are accepted with a warning.
const IGNORED: &[&str] = &[
    "deep-inspect",
    "disable-full-test",
    "disable-leader-election",
    "disable-sync-events",
    "dynamic-configuration-retries",
    "enable-annotation-validation",
    "enable-metrics",
    "health-check-path",
    "maxmind-edition-ids",
    "maxmind-license-key",
    "maxmind-mirror",
    "maxmind-retries-count",
    "maxmind-retries-timeout",
    "post-shutdown-grace-period",
    "profiling",
    "status-update-interval",
    "stream-port",
    "sync-period",
    "sync-rate-limit",
];

/// Arguments in our own spelling.
pub(crate) struct Normalized {
    /// The arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Flags of ingress-nginx that were left out, because they have no effect here.
    pub(crate) ignored: Vec<String>,
}

/// The name of ingress-nginx's program: an image in its place is started by it.
const INGRESS_NGINX: &str = "nginx-ingress-controller";

/// What a successor is started with, from the arguments of this process: its program is started by its own name.
pub(crate) fn inherited(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    arguments.next().filter(is_ingress_nginx).into_iter().chain(arguments).collect()
}

fn is_ingress_nginx(argument: &OsString) -> bool {
    Path::new(argument).file_name().is_some_and(|name| name == INGRESS_NGINX)
}

/// Rewrites the arguments of `run`: ingress-nginx's flags for ports and times become ours, those without meaning here
/// are left out. Called by the name of ingress-nginx's program, or with it as the command, it runs as that would.
pub(crate) fn normalized(arguments: impl IntoIterator<Item = OsString>) -> Normalized {
    let mut arguments = arguments.into_iter().peekable();
    let mut normalized: Vec<OsString> = arguments.next().into_iter().collect();
    let called = normalized.first().is_some_and(is_ingress_nginx);
    if called || arguments.next_if(is_ingress_nginx).is_some() {
        normalized.extend(["run", "--controller-class=k8s.io/ingress-nginx"].map(OsString::from));
    } else {
        normalized.extend(arguments.next());
    }
    let mut ignored = Vec::new();
    if normalized.get(1).is_none_or(|command| command != "run") {
        normalized.extend(arguments);
        return Normalized { arguments: normalized, ignored };
    }
    while let Some(argument) = arguments.next() {
        let Some(text) = argument.to_str() else {
            normalized.push(argument);
            continue;
        };
        let (flag, value) = match text.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (text, None),
        };
        let name = flag.strip_prefix("--").unwrap_or_default();
        let mut take_value = || {
            // `--flag value` and `--flag=value` are both in use; a flag never starts a value.
            let next = arguments.next_if(|next| !next.to_string_lossy().starts_with('-'));
            value.clone().or_else(|| next.map(|next| next.to_string_lossy().into_owned())).unwrap_or_default()
        };
        let port = |address: &str, value: String| Some(format!("{address}:{value}"));
        let replaced = match name {
            "http-port" => port("--http=0.0.0.0", take_value()),
            "https-port" => port("--https=0.0.0.0", take_value()),
            "healthz-port" => port("--status=0.0.0.0", take_value()),
            "status-port" => port("--admin=127.0.0.1", take_value()),
            "shutdown-grace-period" => Some(format!("--lame-duck={}", take_value())),
            _ if IGNORED.contains(&name) || flag == "-v" => {
                take_value();
                ignored.push(flag.to_owned());
                None
            }
            _ => Some(text.to_owned()),
        };
        normalized.extend(replaced.map(OsString::from));
    }
    Normalized { arguments: normalized, ignored }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_flags(arguments: &[&str]) -> Result<(Box<RunFlags>, Vec<String>), clap::Error> {
        let arguments = ["gateway", "run", "--manifests", "."].iter().chain(arguments).map(OsString::from);
        let Normalized { arguments, ignored } = normalized(arguments);
        match Cli::try_parse_from(arguments)?.command {
            Command::Run(flags) => Ok((flags, ignored)),
            _ => unreachable!("run was given"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_ingress_nginx_carry_over() {
        let (flags, ignored) = run_flags(&[
            "--http-port=8080",
            "--https-port",
            "8443",
            "--healthz-port=10255",
            "--ingress-class=public",
            "--ingress-class-by-name=true",
            "--shutdown-grace-period=5",
            "--election-id=leader",
            "--election-ttl=30s",
            "--publish-service",
            "ns/svc",
            "--watch-namespace=",
            "--update-status-on-shutdown=false",
            "--enable-metrics",
            "-v=2",
        ])
        .unwrap();
        assert_eq!(flags.cluster.election_id, "leader");
        assert_eq!(flags.cluster.election_ttl, Duration::from_secs(30));
        assert_eq!(flags.cluster.publish_service, Some(("ns".to_owned(), "svc".to_owned())));
        assert!(flags.cluster.update_status && !flags.cluster.update_status_on_shutdown);
        assert_eq!(flags.http, ["0.0.0.0:8080".parse().unwrap()]);
        assert_eq!(flags.https, ["0.0.0.0:8443".parse().unwrap()]);
        assert_eq!(flags.status, "0.0.0.0:10255".parse().unwrap());
        assert_eq!(flags.meaning.ingress_class, "public");
        assert!(flags.meaning.ingress_class_by_name);
        assert_eq!(flags.lame_duck, Duration::from_secs(5));
        assert_eq!(ignored, ["--enable-metrics", "-v"]);
    }

    #[test]
    fn the_program_of_ingress_nginx_is_run_with_its_controller_class() {
        for arguments in [
            &["/nginx-ingress-controller", "--configmap=ns/settings", "--manifests=."][..],
            &["/gateway", "/nginx-ingress-controller", "--configmap=ns/settings", "--manifests=."],
        ] {
            let Normalized { arguments, ignored } = normalized(arguments.iter().map(OsString::from));
            let Command::Run(flags) = Cli::try_parse_from(arguments).unwrap().command else {
                unreachable!("run is meant")
            };
            assert_eq!(flags.meaning.configmap, Some(("ns".to_owned(), "settings".to_owned())));
            assert_eq!(flags.meaning.controller_class, "k8s.io/ingress-nginx");
            assert!(ignored.is_empty());
        }
        let (flags, _) = run_flags(&["--controller-class=a", "--controller-class=b"]).unwrap();
        assert_eq!(flags.meaning.controller_class, "b");
    }

    #[test]
    fn boolean_flags_need_no_value() {
        assert!(run_flags(&["--ingress-class-by-name"]).unwrap().0.meaning.ingress_class_by_name);
        assert!(!run_flags(&["--ingress-class-by-name=false"]).unwrap().0.meaning.ingress_class_by_name);
    }

    #[test]
    fn a_flag_that_nobody_knows_is_refused() {
        for arguments in [
            &["--nonsense"][..],
            &["--http", "nowhere"],
            &["--threads", "0"],
            &["--configmap", "a"],
            &["--election-ttl=1s"],
            &["--publish-service=a/b", "--publish-status-address=192.0.2.1"],
            &["--watch-namespace=a", "--watch-namespace-selector=b=c"],
            &["--kubeconfig=file"],
        ] {
            let error = run_flags(arguments).err().unwrap();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }
}
