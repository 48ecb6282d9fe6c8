//! A certificate in two files that somebody else renews, such as a mounted Secret.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use routing::{Certificate, CertificateError};

/// A certificate with its key, followed as the files change.
pub struct CertificateFiles {
    chain: PathBuf,
    key: PathBuf,
    last: Mutex<Last>,
}

/// What was read last.
struct Last {
    stamps: Option<[Stamp; 2]>,
    /// The last good one.
    certificate: Arc<Certificate>,
}

/// Tells versions of a file apart. A mounted Secret is renewed by a symbolic link that leads elsewhere, which is another
/// inode.
type Stamp = (u64, u64, Option<SystemTime>);

/// Why there is no certificate in the files.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFileError {
    /// A file cannot be read.
    #[error("read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What they hold cannot be used.
    #[error("certificate in {} and {}: {error}", chain.display(), key.display())]
    Unusable {
        /// The file with the certificates.
        chain: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// Why.
        error: CertificateError,
    },
}

impl CertificateFiles {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// When they hold no certificate with its key.
    pub fn open(chain: &Path, key: &Path) -> Result<Self, CertificateFileError> {
        let stamps = stamps(chain, key).ok();
        let last = Mutex::new(Last { stamps, certificate: Arc::new(read(chain, key)?) });
        Ok(Self { chain: chain.to_owned(), key: key.to_owned(), last })
    }

    /// The certificate that is in the files now; the last good one while they hold none. To be called for each
    /// connection: it looks at the files, and reads them only when they are others.
    pub fn current(&self) -> Arc<Certificate> {
        let mut last = self.last.lock();
        let found = stamps(&self.chain, &self.key).ok();
        if found.is_some() && found != last.stamps {
            last.stamps = found;
            match read(&self.chain, &self.key) {
                Ok(certificate) => {
                    tracing::info!(fingerprint = %certificate.fingerprint, "the webhook has a new certificate");
                    last.certificate = Arc::new(certificate);
                }
                Err(error) => tracing::warn!(%error, "the webhook keeps its last certificate"),
            }
        }
        Arc::clone(&last.certificate)
    }
}

fn read(chain: &Path, key: &Path) -> Result<Certificate, CertificateFileError> {
    let text =
        |path: &Path| std::fs::read(path).map_err(|error| CertificateFileError::Read { path: path.to_owned(), error });
    Certificate::from_pem(&text(chain)?, &text(key)?).map_err(|error| CertificateFileError::Unusable {
        chain: chain.to_owned(),
        key: key.to_owned(),
        error,
    })
}

fn stamps(chain: &Path, key: &Path) -> io::Result<[Stamp; 2]> {
    let stamp = |metadata: Metadata| (metadata.ino(), metadata.len(), metadata.modified().ok());
    Ok([stamp(std::fs::metadata(chain)?), stamp(std::fs::metadata(key)?)])
}
