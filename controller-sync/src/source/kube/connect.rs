//! The client of the API server: from a kubeconfig, or as a pod of the cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// How long a connection may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client. Whether the API server can be reached is not asked here.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file cannot be used.
    #[error("read kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// The process is not a pod.
    #[error("neither --manifests nor --kubeconfig is given, and this is not a pod of a cluster")]
    NotInCluster(#[source] InClusterError),
    /// The client cannot be made from what was read.
    #[error("make the client of the API server")]
    Client(#[source] Box<kube::Error>),
}

/// Makes a client. Must be called inside a runtime; nothing is sent yet.
///
/// # Errors
///
/// When the configuration cannot be read or used.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        None => Config::incluster().map_err(ConnectError::NotInCluster)?,
        Some(path) => {
            let wrap = |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrap)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(wrap)?
        }
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Everybody who asks has a back-off of their own.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))
}
