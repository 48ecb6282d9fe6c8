//! gRPC from end to end: a tonic client, the gateway, a tonic server with the standard health and reflection services.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream;
use tests::certificate::{Authority, Certificate};
use tests::manifests::{ingress, service, tls};
use tests::upstream::Answering;
use tests::wait::LIMIT;
use tests::{Gateway, Manifests, Upstream};
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// A gRPC server with the service `known`; it ends when it is dropped.
struct GrpcServer {
    address: SocketAddr,
    reporter: HealthReporter,
    task: AbortHandle,
}

impl GrpcServer {
    async fn start(certificate: Option<&Certificate>) -> Self {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("known", ServingStatus::Serving).await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .unwrap();
        let mut server = Server::builder();
        if let Some(Certificate { certificate, key }) = certificate {
            let identity = Identity::from_pem(certificate, key);
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving =
            server.add_service(health).add_service(reflection).serve_with_incoming(TcpIncoming::from(listener));
        Self { address, reporter, task: tokio::spawn(serving).abort_handle() }
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A gateway whose host grpc.test leads to an upstream, with and without TLS.
struct Setting {
    gateway: Gateway,
    authority: Authority,
    manifests: Manifests,
}

impl Setting {
    async fn new(upstream: SocketAddr, protocol: &str) -> Self {
        let authority = Authority::new("tests");
        let secret = authority.issue(&["grpc.test"]).secret("grpc");
        let annotations = [("backend-protocol", protocol), ("ssl-redirect", "false")];
        let route = ingress("grpc", "grpc.test", &annotations, &[("/", "grpc")]);
        let text = [service("grpc", &[upstream]), secret, route, tls(&["grpc.test"], "grpc")].concat();
        let manifests = Manifests::of(&text);
        Self { gateway: Gateway::start(&manifests, &[]).await, authority, manifests }
    }

    /// A connection with prior knowledge of HTTP/2, and one over TLS whose certificate is verified.
    async fn channels(&self) -> [Channel; 2] {
        let at = self.gateway.addresses();
        let plain = Endpoint::from_shared(format!("http://{}", at.http)).unwrap();
        let authority = tonic::transport::Certificate::from_pem(&self.authority.certificate);
        let config = ClientTlsConfig::new().ca_certificate(authority).domain_name("grpc.test");
        let over_tls = Endpoint::from_shared(format!("https://{}", at.https)).unwrap().tls_config(config).unwrap();
        [
            plain.origin("http://grpc.test".parse().unwrap()).connect().await.unwrap(),
            over_tls.origin("https://grpc.test".parse().unwrap()).connect().await.unwrap(),
        ]
    }
}

fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

/// Servers that speak plain HTTP/2 and HTTP/2 over TLS, and what an Ingress says of them.
async fn servers() -> [(GrpcServer, &'static str); 2] {
    let certificate = Certificate::self_signed(&["another.test"]);
    [(GrpcServer::start(None).await, "GRPC"), (GrpcServer::start(Some(&certificate)).await, "GRPCS")]
}

#[tokio::test]
async fn a_call_is_answered_and_an_error_keeps_its_status() {
    for (server, protocol) in servers().await {
        let setting = Setting::new(server.address, protocol).await;
        for channel in setting.channels().await {
            let mut client = HealthClient::new(channel);
            for _ in 0..3 {
                let answer = client.check(check("known")).await.unwrap();
                assert_eq!(answer.into_inner().status, ServingStatus::Serving as i32, "{protocol}");
                let error = client.check(check("nobody")).await.unwrap_err();
                assert_eq!((error.code(), error.message()), (Code::NotFound, "service not registered"), "{protocol}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_of_answers_arrives_as_it_is_made() {
    for (server, protocol) in servers().await {
        let setting = Setting::new(server.address, protocol).await;
        let mut watches = Vec::new();
        for channel in setting.channels().await {
            watches.push(HealthClient::new(channel).watch(check("known")).await.unwrap().into_inner());
        }
        for status in [ServingStatus::Serving, ServingStatus::NotServing, ServingStatus::Serving] {
            server.reporter.set_service_status("known", status).await;
            for watch in &mut watches {
                let message = timeout(LIMIT, watch.message()).await.unwrap().unwrap().unwrap();
                assert_eq!(message.status, status as i32, "{protocol}");
            }
            // A stream outlives what happens to its route.
            let host = format!("{}.test", watches.len());
            setting.manifests.write("other.yaml", &ingress("other", &host, &[], &[("/", "grpc")]));
        }
        setting.manifests.remove("manifests.yaml");
        setting.gateway.wait_for("http://grpc.test/", |answer| answer.status == 404).await;
        server.reporter.set_service_status("known", ServingStatus::NotServing).await;
        for watch in &mut watches {
            let message = timeout(LIMIT, watch.message()).await.unwrap().unwrap().unwrap();
            assert_eq!(message.status, ServingStatus::NotServing as i32, "{protocol}");
        }
    }
}

#[tokio::test]
async fn both_sides_of_a_stream_talk_in_turn() {
    for (server, protocol) in servers().await {
        let setting = Setting::new(server.address, protocol).await;
        for channel in setting.channels().await {
            let (questions, receiver) = unbounded_channel();
            let ask = |message| {
                let question = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
                questions.send(question).unwrap();
            };
            let outbound = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
            ask(MessageRequest::ListServices(String::new()));
            let mut client = ServerReflectionClient::new(channel);
            let mut answers = client.server_reflection_info(outbound).await.unwrap().into_inner();
            for _ in 0..3 {
                let answer = timeout(LIMIT, answers.message()).await.unwrap().unwrap().unwrap();
                let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
                    panic!("{protocol}: {answer:?}")
                };
                assert!(list.service.iter().any(|service| service.name == "grpc.health.v1.Health"), "{list:?}");
                // The next question depends on this answer.
                ask(MessageRequest::ListServices(list.service[0].name.clone()));
            }
            timeout(LIMIT, answers.message()).await.unwrap().unwrap().unwrap();
            drop(questions);
            assert!(timeout(LIMIT, answers.message()).await.unwrap().unwrap().is_none(), "the end passes too");
        }
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_at_the_upstream() {
    /// Tells when the upstream gives a call up.
    struct Guard(tokio::sync::mpsc::UnboundedSender<String>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.send("ended".to_owned());
        }
    }
    let (sender, mut events) = unbounded_channel();
    let upstream = Upstream::with(move |request| -> Answering {
        let deadline = request.headers().get("grpc-timeout").map(|limit| limit.to_str().unwrap().to_owned());
        let te = request.headers()["te"].to_str().unwrap();
        sender.send(format!("te {te}, limit {}", deadline.is_some())).unwrap();
        let guard = Guard(sender.clone());
        Box::pin(async move {
            let _guard = guard;
            std::future::pending().await
        })
    })
    .await;
    let setting = Setting::new(upstream.address(), "GRPC").await;
    for channel in setting.channels().await {
        let mut client = HealthClient::new(channel.clone());
        let mut request = Request::new(check("known"));
        request.set_timeout(Duration::from_millis(300));
        let error = timeout(LIMIT, client.check(request)).await.unwrap().unwrap_err();
        assert!(matches!(error.code(), Code::Cancelled | Code::DeadlineExceeded), "{error:?}");
        assert_eq!(timeout(LIMIT, events.recv()).await.unwrap().unwrap(), "te trailers, limit true");
        assert_eq!(timeout(LIMIT, events.recv()).await.unwrap().unwrap(), "ended");

        let call = tokio::spawn(async move { HealthClient::new(channel).check(check("known")).await });
        assert_eq!(timeout(LIMIT, events.recv()).await.unwrap().unwrap(), "te trailers, limit false");
        call.abort();
        assert_eq!(timeout(LIMIT, events.recv()).await.unwrap().unwrap(), "ended");
    }
}
