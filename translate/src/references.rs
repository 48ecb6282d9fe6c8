//! Which Secrets and ConfigMaps an object names. Sources that see every object of a cluster keep these and no others.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::index::{authority_refs, credentials_ref, used_certificates};
use crate::ingress::Ingress;
use crate::resources::{Kind, NamespacedName, ObjectKey, Resource};
use crate::settings::GlobalSettings;

impl Config {
    /// The Secrets and ConfigMaps that the flags name.
    #[must_use]
    pub fn references(&self) -> Vec<ObjectKey> {
        let key = |kind: Kind, named: &(String, String)| NamespacedName::new(&named.0, &named.1).of_kind(kind);
        let maps = [&self.configmap, &self.tcp_services, &self.udp_services].into_iter().flatten();
        let certificate = self.default_certificate.as_ref().map(|named| key(Kind::Secret, named));
        maps.map(|named| key(Kind::ConfigMap, named)).chain(certificate).collect()
    }
}

impl Resource {
    /// The Secrets and ConfigMaps that the object names, sorted. Whether it may use them is decided elsewhere.
    #[must_use]
    pub fn references(&self, config: &Config) -> Vec<ObjectKey> {
        let mut named = match self {
            Self::Ingress(ingress) => of_ingress(ingress),
            Self::ConfigMap(map) => {
                let NamespacedName { namespace, name } = map.meta.key();
                let is_settings = config.configmap.as_ref().is_some_and(|(n, m)| *n == *namespace && *m == *name);
                let settings = is_settings.then(|| GlobalSettings::parse(Some(&map.data), &BTreeMap::new()).0);
                let named = settings.iter().flat_map(GlobalSettings::named_config_maps);
                named.map(|name| name.of_kind(Kind::ConfigMap)).collect()
            }
            Self::EndpointSlice(_)
            | Self::Endpoints(_)
            | Self::IngressClass(_)
            | Self::Namespace(_)
            | Self::Secret(_)
            | Self::Service(_) => Vec::new(),
        };
        named.sort();
        named.dedup();
        named
    }
}

fn of_ingress(ingress: &Ingress) -> Vec<ObjectKey> {
    let own = &ingress.meta.namespace;
    let certificates = used_certificates(ingress).map(|reference| (Kind::Secret, reference.namespace, reference.name));
    let users = credentials_ref(ingress).map(|reference| (Kind::Secret, reference.namespace, reference.name));
    let authorities = authority_refs(ingress).map(|reference| (Kind::Secret, reference.namespace, reference.name));
    let answers = ingress.annotations.custom_headers.as_deref().map(|reference| {
        let (namespace, name) = reference.split_once('/').unwrap_or((own, reference));
        (Kind::ConfigMap, namespace.into(), name.into())
    });
    let requests = ingress.annotations.external.request_headers.as_ref();
    let requests = requests.and_then(|reference| reference.within(own).ok());
    let requests = requests.map(|name| (Kind::ConfigMap, own.clone(), name.into()));
    let named = certificates.chain(users).chain(authorities).chain(answers).chain(requests);
    named.map(|(kind, namespace, name)| ObjectKey { kind, namespace, name }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decode::{Decoded, decode};

    fn config() -> Config {
        Config {
            annotation_prefixes: vec!["nginx.ingress.kubernetes.io".to_owned()],
            configmap: Some(("edge".to_owned(), "settings".to_owned())),
            default_certificate: Some(("edge".to_owned(), "cert".to_owned())),
            ..Config::default()
        }
    }

    fn references(object: Value) -> Vec<String> {
        let Decoded::Resource(resource, _) = decode(object, &config()) else { panic!("the object is refused") };
        resource.references(&config()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_ingress_names_its_certificates_authorities_users_and_headers() {
        let ingress = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "web", "namespace": "shop", "annotations": {
                "nginx.ingress.kubernetes.io/auth-type": "basic",
                "nginx.ingress.kubernetes.io/auth-secret": "users",
                "nginx.ingress.kubernetes.io/auth-tls-secret": "shop/authority",
                "nginx.ingress.kubernetes.io/proxy-ssl-secret": "shop/upstream",
                "nginx.ingress.kubernetes.io/auth-url": "http://auth.test/",
                "nginx.ingress.kubernetes.io/auth-proxy-set-headers": "questions",
                "nginx.ingress.kubernetes.io/custom-headers": "shop/headers",
            }},
            "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}},
                "tls": [{"secretName": "b"}, {"secretName": "a"}, {"secretName": "a"}, {}]},
        });
        assert_eq!(
            references(ingress),
            [
                "ConfigMap shop/headers",
                "ConfigMap shop/questions",
                "Secret shop/a",
                "Secret shop/authority",
                "Secret shop/b",
                "Secret shop/upstream",
                "Secret shop/users",
            ]
        );
    }

    #[test]
    fn only_the_settings_name_config_maps() {
        let map = |name: &str| {
            let metadata = json!({"name": name, "namespace": "edge"});
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"add-headers": "edge/more"}})
        };
        assert_eq!(references(map("settings")), ["ConfigMap edge/more"]);
        assert_eq!(references(map("other")), [""; 0]);
    }

    #[test]
    fn flags_name_the_settings_and_the_default_certificate() {
        let named: Vec<_> = config().references().iter().map(ToString::to_string).collect();
        assert_eq!(named, ["ConfigMap edge/settings", "Secret edge/cert"]);
    }
}
