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

/// A Service.
pub(crate) fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - name: http\n    port: 80\n    \
         targetPort: 8080\n"
    )
}

/// The EndpointSlice of a Service with one endpoint.
pub(crate) fn slice(service: &str, endpoint: SocketAddr) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-1\n  labels:\n    \
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
