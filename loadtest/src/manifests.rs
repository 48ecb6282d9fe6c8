//! Texts of the manifests that the gateway is given.

use std::net::SocketAddr;

/// An Ingress that sends a host to a Service.
pub(crate) fn ingress(name: &str, host: &str, service: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\nspec:\n  ingressClassName: nginx\n  \
         rules:\n  - host: {host}\n    http:\n      paths:\n      - path: /\n        pathType: Prefix\n        \
         backend:\n          service:\n            name: {service}\n            port:\n              number: 80\n"
    )
}

/// An Ingress that sends a host to a Service, also over TLS.
pub(crate) fn tls_ingress(name: &str, host: &str, service: &str, secret: &str, annotations: &[(&str, &str)]) -> String {
    let mut metadata = format!("  name: {name}\n  annotations:\n");
    for (key, value) in annotations {
        metadata.push_str(&format!("    nginx.ingress.kubernetes.io/{key}: \"{value}\"\n"));
    }
    let tls = format!("  ingressClassName: nginx\n  tls:\n  - hosts: [{host}]\n    secretName: {secret}\n");
    ingress(name, host, service)
        .replace(&format!("  name: {name}\nspec:"), &format!("{metadata}spec:"))
        .replace("  ingressClassName: nginx\n", &tls)
}

/// A Secret with a certificate and its key, both as PEM.
pub(crate) fn secret(name: &str, certificate: &str, key: &str) -> String {
    let quote = |text: &str| serde_json::Value::from(text);
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: {}\n  \
         tls.key: {}\n",
        quote(certificate),
        quote(key)
    )
}

/// A Service.
pub(crate) fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - name: http\n    port: 80\n    \
         targetPort: 8080\n"
    )
}

/// The EndpointSlice of a Service with one endpoint.
pub(crate) fn slice(service: &str, endpoint: SocketAddr) -> String {
    slices(service, &[endpoint])
}

/// The EndpointSlices of a Service with several endpoints: one has one port, so each has its own.
pub(crate) fn slices(service: &str, endpoints: &[SocketAddr]) -> String {
    let slices = (1..).zip(endpoints).map(|(number, endpoint)| slice_of_one(service, number, *endpoint));
    documents(&slices.collect::<Vec<_>>())
}

fn slice_of_one(service: &str, number: usize, endpoint: SocketAddr) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-{number}\n  labels:\n    \
         kubernetes.io/service-name: {service}\naddressType: IPv4\nports:\n- name: http\n  port: {}\nendpoints:\n\
         - addresses: [\"{}\"]\n",
        endpoint.port(),
        endpoint.ip()
    )
}

/// Documents in one file.
pub(crate) fn documents(documents: &[String]) -> String {
    documents.join("---\n")
}
