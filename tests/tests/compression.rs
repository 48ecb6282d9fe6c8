//! Compression of answers (`ingress-nginx.md` section 1.3, HTTP features; nginx's `gzip` module).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Read;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tests::manifests::{SETTINGS, ingress, service, settings};
use tests::upstream::{Answering, full};
use tests::{Client, Gateway, Manifests, Upstream};

const ALL: &[(&str, &str)] = &[("use-gzip", "true"), ("enable-brotli", "true"), ("enable-zstd", "true")];

struct Site {
    gateway: Gateway,
    _manifests: Manifests,
    _upstream: Upstream,
}

async fn site(upstream: Upstream, keys: &[(&str, &str)]) -> Site {
    let objects = [service("a", &[upstream.address()]), ingress("a", "a.test", &[], &[("/", "a")])];
    let manifests = Manifests::of(&objects.concat());
    manifests.write("settings.yaml", &settings(keys));
    Site { gateway: Gateway::start(&manifests, &[SETTINGS]).await, _manifests: manifests, _upstream: upstream }
}

/// An upstream whose answer the query describes: `type`, `length`, `status`, `encoding`, `etag`, `cache`.
async fn upstream() -> Upstream {
    Upstream::with(|request: Request<Incoming>| -> Answering {
        Box::pin(async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let value = |name: &str| {
                query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
            };
            let length = value("length").map_or(2000, |length| length.parse().unwrap());
            let mut answer = Response::builder()
                .status(value("status").map_or(200, |status| status.parse().unwrap()))
                .header("content-type", value("type").unwrap_or_else(|| "text/plain; charset=utf-8".to_owned()))
                .header("etag", value("etag").map_or("\"abc\"".to_owned(), |tag| tag.replace('~', "\"")));
            for (name, header) in [("encoding", "content-encoding"), ("cache", "cache-control")] {
                if let Some(value) = value(name) {
                    answer = answer.header(header, value);
                }
            }
            answer.body(full(text(length))).unwrap()
        })
    })
    .await
}

fn text(length: usize) -> String {
    "hello, compression. ".chars().cycle().take(length).collect()
}

fn decoded(coding: Option<&str>, body: &[u8]) -> String {
    let mut text = String::new();
    match coding {
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_string(&mut text).unwrap(),
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_string(&mut text).unwrap(),
        Some("zstd") => zstd::stream::read::Decoder::new(body).unwrap().read_to_string(&mut text).unwrap(),
        Some(other) => panic!("{other}"),
        None => return String::from_utf8(body.to_vec()).unwrap(),
    };
    text
}

#[tokio::test]
async fn the_client_gets_the_best_coding_that_it_accepts() {
    let site = site(upstream().await, ALL).await;
    for (accept, coding) in [
        ("gzip", Some("gzip")),
        ("gzip, deflate, br, zstd", Some("br")),
        ("gzip, zstd", Some("zstd")),
        ("br;q=0, gzip;q=0.1", Some("gzip")),
        ("identity", None),
        ("", None),
    ] {
        let answer = site.gateway.get_with("http://a.test/", &[("accept-encoding", accept)]).await;
        assert_eq!(answer.header("content-encoding"), coding, "{accept}");
        assert_eq!(decoded(coding, &answer.body), text(2000), "{accept}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{accept}");
        let (etag, length) = if coding.is_some() { ("W/\"abc\"", None) } else { ("\"abc\"", Some("2000")) };
        assert_eq!((answer.header("etag"), answer.header("content-length")), (Some(etag), length), "{accept}");
    }
}

#[tokio::test]
async fn what_is_not_listed_or_too_short_or_encoded_stays_as_it_is() {
    let site = site(upstream().await, &[("use-gzip", "true")]).await;
    for (query, coding) in [
        ("", Some("gzip")),
        ("type=text/html", Some("gzip")),
        ("type=application/json", Some("gzip")),
        ("type=TEXT/CSS", Some("gzip")),
        ("status=404", Some("gzip")),
        ("status=403", Some("gzip")),
        ("status=500", None),
        ("status=201", None),
        ("type=image/png", None),
        ("type=text/event-stream", None),
        ("length=256", Some("gzip")),
        ("length=255", None),
        ("encoding=br", Some("br")),
        ("cache=no-transform", None),
    ] {
        let url = format!("http://a.test/?{query}");
        let answer = site.gateway.get_with(&url, &[("accept-encoding", "gzip")]).await;
        assert_eq!(answer.header("content-encoding"), coding, "{query}");
    }
    let mut client = Client::http1(site.gateway.addresses().http).await;
    let head = client.request("HEAD", "a.test", "/", &[("accept-encoding", "gzip")], "");
    let answer = client.send(head).await;
    assert_eq!((answer.header("content-encoding"), answer.body.len()), (Some("gzip"), 0));
    assert_eq!(client.get("a.test", "/", &[]).await.status, 200);
}

#[tokio::test]
async fn nothing_is_compressed_unless_the_settings_ask_for_it() {
    let site = site(upstream().await, &[]).await;
    let answer = site.gateway.get_with("http://a.test/", &[("accept-encoding", "gzip, br, zstd")]).await;
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
}

#[tokio::test]
async fn types_and_lengths_follow_their_keys() {
    let keys = [("use-gzip", "true"), ("gzip-types", "image/png"), ("gzip-min-length", "10"), ("gzip-level", "9")];
    let site = site(upstream().await, &keys).await;
    for (query, coding) in
        [("type=image/png&length=10", Some("gzip")), ("type=image/png&length=9", None), ("type=text/plain", None)]
    {
        let answer = site.gateway.get_with(&format!("http://a.test/?{query}"), &[("accept-encoding", "gzip")]).await;
        assert_eq!(answer.header("content-encoding"), coding, "{query}");
    }
}

#[tokio::test]
async fn a_piece_that_the_upstream_has_sent_reaches_the_client_before_the_next() {
    let (pieces, received) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let received = std::sync::Arc::new(tokio::sync::Mutex::new(Some(received)));
    let upstream = Upstream::with(move |_: Request<Incoming>| -> Answering {
        let received = std::sync::Arc::clone(&received);
        Box::pin(async move {
            let received = received.lock().await.take().unwrap();
            let stream = futures_stream(received);
            let body = StreamBody::new(stream).boxed();
            Response::builder().header("content-type", "application/json").body(body).unwrap()
        })
    })
    .await;
    let site = site(upstream, ALL).await;
    let mut client = Client::http1(site.gateway.addresses().http).await;
    let request = client.request("GET", "a.test", "/", &[("accept-encoding", "gzip")], "");
    pieces.send("first").unwrap();
    let mut body = client.open(request).await.unwrap().into_body();
    let mut all = Vec::new();
    let mut inflater = flate2::Decompress::new(false);
    for piece in ["first", "second", "third"] {
        if piece != "first" {
            pieces.send(piece).unwrap();
        }
        let mut seen = String::new();
        while !seen.ends_with(piece) {
            let frame: Bytes = body.frame().await.unwrap().unwrap().into_data().unwrap();
            all.extend_from_slice(&frame);
            // The header of gzip has ten bytes; behind it is a raw deflate stream.
            let mut output = vec![0; 4096];
            inflater.reset(false);
            inflater.decompress(&all[10..], &mut output, flate2::FlushDecompress::Sync).unwrap();
            output.truncate(usize::try_from(inflater.total_out()).unwrap());
            seen = String::from_utf8(output).unwrap();
        }
    }
}

fn futures_stream(
    received: tokio::sync::mpsc::UnboundedReceiver<&'static str>,
) -> impl futures_util::Stream<Item = std::io::Result<Frame<Bytes>>> {
    futures_util::stream::unfold(received, |mut received| async {
        let piece = received.recv().await?;
        Some((Ok(Frame::data(Bytes::from_static(piece.as_bytes()))), received))
    })
}
