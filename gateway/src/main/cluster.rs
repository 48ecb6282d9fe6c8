//! Kubernetes as the source: its flags, and what is started for it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgAction, Args};
use controller_sync::admission::{self, CertificateFiles, Custody, OwnCertificate};
use controller_sync::metrics;
use controller_sync::source::kube::{Client, KubeSource, Selection, connect};
use controller_sync::status::{Address, Board, Election, Publish, Statuses, StatusesHandle};
use controller_sync::sync::SyncRequest;
use gateway::{CertificateSource, SecureEndpoint};
use prometheus::Registry;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use translate::{ClassConfig, Config, ServiceRef, Source};

use super::values;

/// Flags that matter without `--manifests` only. They are ingress-nginx's own, but for the first.
#[derive(Args, Default)]
pub(crate) struct ClusterFlags {
    /// How to reach the API server; as a pod, that is known
    #[arg(long, value_name = "FILE", env = "PENSTOCK_KUBECONFIG", conflicts_with = "manifests")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Namespace to serve; all of them when empty
    #[arg(long, value_name = "NS", env = "PENSTOCK_WATCH_NAMESPACE", default_value = "")]
    pub(crate) watch_namespace: String,
    /// Labels of the namespaces to serve, such as env=prod,team in (a,b)
    #[arg(
        long,
        value_name = "SELECTOR",
        env = "PENSTOCK_WATCH_NAMESPACE_SELECTOR",
        default_value = "",
        conflicts_with = "watch_namespace"
    )]
    pub(crate) watch_namespace_selector: String,
    /// Serves Ingresses that name no class
    #[arg(long, env = "PENSTOCK_WATCH_INGRESS_WITHOUT_CLASS", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    pub(crate) watch_ingress_without_class: bool,
    /// Service whose addresses the statuses of Ingresses show
    #[arg(long, value_name = "NS/NAME", env = "PENSTOCK_PUBLISH_SERVICE", value_parser = values::object,
          conflicts_with = "publish_status_address")]
    pub(crate) publish_service: Option<(String, String)>,
    /// Addresses or names that the statuses of Ingresses show, separated by commas
    #[arg(long, value_name = "LIST", env = "PENSTOCK_PUBLISH_STATUS_ADDRESS", value_delimiter = ',')]
    pub(crate) publish_status_address: Vec<String>,
    /// Shows the internal addresses of nodes, where neither of the two flags above is given
    #[arg(long, env = "PENSTOCK_REPORT_NODE_INTERNAL_IP_ADDRESS", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    pub(crate) report_node_internal_ip_address: bool,
    /// Writes the statuses of Ingresses
    #[arg(long, env = "PENSTOCK_UPDATE_STATUS", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "true", action = ArgAction::Set)]
    pub(crate) update_status: bool,
    /// Clears the statuses of Ingresses when the last replica leaves
    #[arg(long, env = "PENSTOCK_UPDATE_STATUS_ON_SHUTDOWN", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "true", action = ArgAction::Set)]
    pub(crate) update_status_on_shutdown: bool,
    /// Name of the Lease whose holder writes statuses and Events
    #[arg(long, value_name = "NAME", env = "PENSTOCK_ELECTION_ID", default_value = "ingress-controller-leader")]
    pub(crate) election_id: String,
    /// How long a leader that does not answer keeps the Lease
    #[arg(long, value_name = "DURATION", env = "PENSTOCK_ELECTION_TTL", default_value = "10s",
          value_parser = values::election_ttl)]
    pub(crate) election_ttl: Duration,
    #[command(flatten)]
    pub(crate) webhook: WebhookFlags,
}

/// The validating webhook, by ingress-nginx's flags.
#[derive(Args, Default)]
pub(crate) struct WebhookFlags {
    /// Address of the webhook that judges Ingresses before they are written, such as :8443
    #[arg(long, value_name = "ADDR", env = "PENSTOCK_VALIDATING_WEBHOOK", conflicts_with = "manifests",
          value_parser = values::listen_address, requires = "credentials")]
    pub(crate) validating_webhook: Option<SocketAddr>,
    /// File with its certificate, followed as it changes
    #[arg(long, value_name = "FILE", env = "PENSTOCK_VALIDATING_WEBHOOK_CERTIFICATE", group = "credentials",
          requires_all = ["validating_webhook", "validating_webhook_key"])]
    pub(crate) validating_webhook_certificate: Option<PathBuf>,
    /// File with the key of its certificate
    #[arg(
        long,
        value_name = "FILE",
        env = "PENSTOCK_VALIDATING_WEBHOOK_KEY",
        requires = "validating_webhook_certificate"
    )]
    pub(crate) validating_webhook_key: Option<PathBuf>,
    /// Secret of the gateway's own namespace that it keeps a certificate of its own making in, in place of those files
    #[arg(long, value_name = "NAME", env = "PENSTOCK_VALIDATING_WEBHOOK_SECRET", group = "credentials",
          requires_all = ["validating_webhook", "validating_webhook_configuration"])]
    pub(crate) validating_webhook_secret: Option<String>,
    /// ValidatingWebhookConfiguration that is told to rely on that certificate
    #[arg(
        long,
        value_name = "NAME",
        env = "PENSTOCK_VALIDATING_WEBHOOK_CONFIGURATION",
        requires = "validating_webhook_secret"
    )]
    pub(crate) validating_webhook_configuration: Option<String>,
}

impl WebhookFlags {
    /// The webhook that the flags ask for, on a cluster that is reached by `client`.
    pub(crate) fn endpoint(
        &self,
        requests: mpsc::Sender<SyncRequest>,
        client: &Client,
        control: &Runtime,
    ) -> anyhow::Result<Option<SecureEndpoint>> {
        let Some(address) = self.validating_webhook else { return Ok(None) };
        let certificate: CertificateSource =
            if let (Some(chain), Some(key)) = (&self.validating_webhook_certificate, &self.validating_webhook_key) {
                let files = CertificateFiles::open(chain, key).context("certificate of the webhook")?;
                Arc::new(move || Some(files.current()))
            } else {
                let custody = Custody {
                    namespace: own_namespace(client),
                    secret: self.validating_webhook_secret.clone().unwrap_or_default(),
                    configuration: self.validating_webhook_configuration.clone().unwrap_or_default(),
                };
                let own = Arc::new(OwnCertificate::new(client.clone(), custody));
                control.spawn(Arc::clone(&own).keep());
                Arc::new(move || own.current())
            };
        Ok(Some(SecureEndpoint { address, router: admission::webhook(requests), certificate }))
    }
}

/// The namespace of the gateway itself.
fn own_namespace(client: &Client) -> String {
    std::env::var("POD_NAMESPACE").unwrap_or_else(|_| client.default_namespace().to_owned())
}

/// What is started for a cluster, as far as others need it.
pub(crate) struct Cluster {
    pub(crate) source: KubeSource,
    pub(crate) board: Arc<Board>,
    pub(crate) statuses: StatusesHandle,
}

impl ClusterFlags {
    /// How objects of a cluster are read.
    pub(crate) fn config(&self, config: Config) -> Config {
        let class = ClassConfig { without_class: self.watch_ingress_without_class, ..config.class };
        Config { source: Source::Cluster, class, published_service: self.publish_service.clone(), ..config }
    }

    /// How the API server is asked. It need not be there yet.
    pub(crate) fn connect(&self, control: &Runtime) -> anyhow::Result<Client> {
        Ok(control.block_on(connect(self.kubeconfig.as_deref()))?)
    }

    /// Prepares the source and starts to write back, as soon as there is something to write.
    pub(crate) fn start(
        &self,
        client: Client,
        config: Config,
        control: &Runtime,
        registry: &Registry,
    ) -> anyhow::Result<Cluster> {
        let board = Arc::new(Board::new(self.publish_service.as_ref()));
        let election = self.election(own_namespace(&client));
        let gauge = metrics::leadership(registry, &election.name).context("metrics")?;
        let statuses = Statuses {
            client: client.clone(),
            board: Arc::clone(&board),
            publish: self.publish(&election.namespace),
            election,
            clear: self.update_status_on_shutdown,
            on_leadership: Box::new(move |is_leader| gauge.set(i64::from(is_leader))),
        };
        let statuses = {
            let _guard = control.enter();
            statuses.start()
        };
        let selection = self.selection(config.default_backend.as_ref());
        let source = KubeSource::new(client, config, &selection, Arc::clone(&board));
        Ok(Cluster { source, board, statuses })
    }

    fn selection(&self, default_backend: Option<&ServiceRef>) -> Selection {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let default_backend =
            default_backend.map(|ServiceRef { namespace, name, port: _ }| (namespace.clone(), name.clone()));
        Selection {
            namespace: some(&self.watch_namespace),
            namespace_selector: some(&self.watch_namespace_selector),
            backends: default_backend.into_iter().collect(),
            published: self.publish_service.clone(),
        }
    }

    fn election(&self, namespace: String) -> Election {
        let pod = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty());
        let pod = pod.as_deref().unwrap_or("penstock");
        Election {
            namespace,
            name: self.election_id.clone(),
            // In a hand-over, two processes of one pod are candidates.
            identity: format!("{pod}_{:08x}", fastrand::u32(..)),
            ttl: self.election_ttl,
        }
    }

    fn publish(&self, namespace: &str) -> Option<Publish> {
        if !self.update_status {
            return None;
        }
        if self.publish_service.is_some() {
            return Some(Publish::Service);
        }
        let given: Vec<Address> = self
            .publish_status_address
            .iter()
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
            .map(Address::parse)
            .collect();
        if !given.is_empty() {
            return Some(Publish::Fixed(given));
        }
        let Ok(pod) = std::env::var("POD_NAME") else {
            tracing::warn!(
                "statuses are not written: neither --publish-service nor --publish-status-address is given, and the \
                 nodes are not known without POD_NAME and POD_NAMESPACE"
            );
            return None;
        };
        let internal = self.report_node_internal_ip_address;
        Some(Publish::Nodes { namespace: namespace.to_owned(), pod, internal })
    }
}
