//! Last good versions: what one process tells the next about objects whose newest version cannot be used.
//!
//! A source alone knows whether such an object is still there and still unusable; what it is handed here is taken for that
//! object only. It is read like everything that a source reads, so that no process serves what it would refuse.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;
use translate::resources::{ObjectKey, Resource};
use translate::{Config, Decoded, decode};
use zeroize::Zeroizing;

use super::directory::DirectoryHandle;
use super::kube::KubeHandle;

/// Bytes that are handed over at most.
const MAX_BYTES: usize = 16 << 20;
/// How long a source, and what it asks, may take.
const LIMIT: Duration = Duration::from_secs(5);

/// An object in a version that was good. It may be a Secret: it is never printed.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct LastGood {
    /// The file that held it and cannot be read now; `None` for an object that is there and refused.
    pub file: Option<PathBuf>,
    /// The object.
    pub object: Value,
}

/// An object whose newest version cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Its identity.
    pub key: ObjectKey,
    /// The file that held it.
    pub file: PathBuf,
}

impl fmt::Debug for LastGood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastGood").field("file", &self.file).finish_non_exhaustive()
    }
}

/// What is told to a source, and who waits for it to be live.
#[derive(Debug)]
pub(super) struct Recall {
    pub(super) objects: Vec<LastGood>,
    pub(super) done: oneshot::Sender<()>,
}

/// A source, for what it must be asked while it runs.
#[derive(Clone)]
pub enum SourceHandle {
    /// Manifests.
    Directory(DirectoryHandle),
    /// An API server.
    Kube(KubeHandle),
}

// === impl SourceHandle ===

impl SourceHandle {
    /// The objects whose newest versions cannot be read. An API server has none: it knows what it refuses.
    pub async fn unread(&self) -> Vec<Unread> {
        match self {
            Self::Directory(handle) => {
                let asked = tokio::time::timeout(LIMIT, handle.unread()).await;
                asked.unwrap_or_default()
            }
            Self::Kube(_) => Vec::new(),
        }
    }

    /// Goes on with last good versions. Returns when they are live, as far as they are of use, and whether that is so:
    /// a source that takes too long is not waited for.
    pub async fn recall(&self, objects: Vec<LastGood>) -> bool {
        let (done, is_done) = oneshot::channel();
        let recall = Recall { objects, done };
        let recalled = async {
            match self {
                Self::Directory(handle) => handle.recall(recall),
                Self::Kube(handle) => handle.recall(recall).await,
            }
            is_done.await.is_ok()
        };
        tokio::time::timeout(LIMIT, recalled).await.unwrap_or(false)
    }
}

// === what is sent ===

/// Writes as many of them as may be sent.
#[must_use]
pub fn export(objects: &[LastGood]) -> Zeroizing<Vec<u8>> {
    export_within(objects, MAX_BYTES)
}

fn export_within(objects: &[LastGood], max_bytes: usize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(b"[".to_vec());
    let mut n_left_out = 0;
    for object in objects {
        // The name of a file that is no text cannot be written.
        let written = serde_json::to_vec(object).ok().map(Zeroizing::new);
        let Some(written) = written.filter(|written| bytes.len() + written.len() + 2 <= max_bytes) else {
            n_left_out += 1;
            continue;
        };
        if bytes.len() > 1 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(&written);
    }
    bytes.push(b']');
    if n_left_out > 0 {
        tracing::warn!(
            n_left_out,
            "last good versions that are too much to hand over, or in a file whose name is no text"
        );
    }
    bytes
}

/// Reads what another process has written; `None` when it is in another form.
#[must_use]
pub fn import(bytes: &[u8]) -> Option<Vec<LastGood>> {
    serde_json::from_slice(bytes).ok()
}

/// Reads an object; `None` for one that this process would refuse.
pub(super) fn read(object: Value, config: &Config) -> Option<Box<Resource>> {
    match decode(object, config) {
        Decoded::Resource(resource, _) => Some(resource),
        Decoded::Refused(key, problems) => {
            let object = key.map(|key| key.to_string()).unwrap_or_default();
            let why = problems.first().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(object, why, "the last good version of an object is not good here");
            None
        }
        Decoded::List(_) | Decoded::Ignored | Decoded::Unknown { .. } | Decoded::Empty => None,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use serde_json::json;

    use super::*;

    fn object(name: &str) -> LastGood {
        LastGood { file: Some("/etc/manifests/a.yaml".into()), object: json!({"metadata": {"name": name}}) }
    }

    #[test]
    fn another_process_reads_what_one_has_written() {
        for objects in [vec![], vec![object("a")], vec![object("a"), LastGood { file: None, ..object("b") }]] {
            assert!(import(&export(&objects)) == Some(objects));
        }
    }

    #[test]
    fn what_is_too_much_is_left_out_and_the_rest_is_sent() {
        let large = object(&"x".repeat(1000));
        let nameless = LastGood { file: Some(OsStr::from_bytes(b"\xff").into()), ..object("c") };
        let objects = [nameless, object("a"), large, object("b")];
        assert!(import(&export_within(&objects, 500)) == Some(vec![object("a"), object("b")]));
        assert!(import(&export_within(&objects, 0)) == Some(vec![]));
    }

    #[test]
    fn another_form_is_not_guessed_at() {
        for bytes in [&b""[..], b"{}", b"[{}]", b"[1]", b"\xff"] {
            assert!(import(bytes).is_none());
        }
    }

    #[test]
    fn what_this_process_would_refuse_is_not_read() {
        let config = Config::default();
        assert!(read(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}), &config).is_some());
        for object in [
            json!(null),
            json!([]),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}),
            json!({"apiVersion": "v1", "kind": "List", "items": []}),
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a"}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
        ] {
            assert!(read(object, &config).is_none());
        }
    }
}
