//! The rows of the strict gate, by the sections of RFC 9112 and RFC 9110.

/// What the upstream may get.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Upstream {
    /// Nothing at all.
    Nothing,
    /// No request that comes to its end.
    NothingComplete,
    /// A request with this text, in lower case.
    Has(&'static str),
    /// No request with this text, in lower case.
    HasNot(&'static str),
}

/// One input and what must become of it.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it is about.
    pub(crate) id: &'static str,
    /// The bytes of the client.
    pub(crate) send: Vec<u8>,
    /// The statuses that are right.
    pub(crate) statuses: &'static [u16],
    /// Whether the connection has to end.
    pub(crate) closes: bool,
    /// What the upstream may get.
    pub(crate) upstream: Upstream,
    /// Whether a bare Pingora proxy does otherwise.
    pub(crate) is_ours: bool,
}

const HOST: &str = "Host: t\r\n";

impl Row {
    fn refused(id: &'static str, send: impl Into<Vec<u8>>) -> Self {
        let (statuses, upstream) = (&[400][..], Upstream::Nothing);
        Self { id, send: send.into(), statuses, closes: true, upstream, is_ours: false }
    }

    fn served(id: &'static str, send: impl Into<Vec<u8>>, has: &'static str) -> Self {
        let (statuses, upstream) = (&[200][..], Upstream::Has(has));
        Self { id, send: send.into(), statuses, closes: false, upstream, is_ours: false }
    }

    /// Bare Pingora does otherwise.
    fn ours(self) -> Self {
        Self { is_ours: true, ..self }
    }

    fn status(self, statuses: &'static [u16]) -> Self {
        Self { statuses, ..self }
    }

    fn upstream(self, upstream: Upstream) -> Self {
        Self { upstream, ..self }
    }

    /// The head has passed when the body turns out to be malformed.
    fn in_body(self) -> Self {
        self.upstream(Upstream::NothingComplete)
    }
}

/// A request with a head of its own and a body that smuggles another request.
fn framed(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n{HOST}\r\n").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
}

/// A chunked request whose body is malformed only after the head has gone on.
fn with_fields(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\n{fields}\r\n").into_bytes()
}

fn with_line(line: &str) -> Vec<u8> {
    format!("{line}\r\n{HOST}\r\n").into_bytes()
}

/// What must be refused.
pub(crate) fn refused() -> Vec<Row> {
    let long = |n| "a".repeat(n);
    let fields = |n: usize| (0..n).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    vec![
        // RFC 9112 section 6: the length of a body.
        Row::refused("content-length and chunked", framed("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")).ours(),
        Row::refused("chunked and content-length", framed("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")).ours(),
        Row::refused("two lengths", framed("Content-Length: 5\r\nContent-Length: 6\r\n")),
        Row::refused("two equal lengths", framed("Content-Length: 5\r\nContent-Length: 5\r\n")).ours(),
        Row::refused("a list of lengths", framed("Content-Length: 5, 5\r\n")).ours(),
        Row::refused("an empty length", framed("Content-Length: \r\n")),
        Row::refused("an empty and a good length", framed("Content-Length: \r\nContent-Length: 37\r\n")),
        Row::refused("a hexadecimal length", framed("Content-Length: 0x10\r\n")),
        Row::refused("a length with an underscore", framed("Content-Length: 1_0\r\n")),
        Row::refused("a length with a sign", framed("Content-Length: +5\r\n")),
        Row::refused("a negative length", framed("Content-Length: -5\r\n")),
        Row::refused("a length with a space in it", framed("Content-Length: 5 5\r\n")),
        Row::refused("a length of 20 digits", framed("Content-Length: 10000000000000000000\r\n")).ours(),
        Row::refused("a length of 2^63", framed("Content-Length: 9223372036854775808\r\n")).ours(),
        Row::refused("an empty coding before chunked", framed("Transfer-Encoding: ,chunked\r\n")).ours(),
        Row::refused("an empty coding after chunked", framed("Transfer-Encoding: chunked,\r\n")),
        Row::refused("an unknown coding", framed("Transfer-Encoding: xchunked\r\n")),
        Row::refused("chunked with a parameter", framed("Transfer-Encoding: chunked;q=1\r\n")),
        Row::refused("chunked after a vertical tab", framed("Transfer-Encoding: \x0bchunked\r\n")),
        Row::refused("chunked before another coding", framed("Transfer-Encoding: chunked, identity\r\n")),
        Row::refused("chunked after another coding", framed("Transfer-Encoding: identity, chunked\r\n")).ours(),
        Row::refused("chunked twice", framed("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")).ours(),
        Row::refused("a space before the colon of chunked", framed("Transfer-Encoding : chunked\r\n")),
        Row::refused(
            "chunked in HTTP/1.0",
            format!("POST / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        // Section 5: fields.
        Row::refused("a space before a colon", with_fields("Host : t\r\n")),
        Row::refused("a space before the first field", with_fields(" Host: t\r\n")),
        Row::refused("a field without a colon", with_fields(&format!("{HOST}Foo\r\n"))),
        Row::refused("a folded field", with_fields(&format!("{HOST}A: b\r\n c\r\n"))),
        Row::refused("a field without a name", with_fields(&format!("{HOST}: v\r\n"))),
        Row::refused("a name with a parenthesis", with_fields(&format!("{HOST}A(: v\r\n"))),
        Row::refused("a name beyond ASCII", &b"GET / HTTP/1.1\r\nHost: t\r\nA\xe9: v\r\n\r\n"[..]),
        Row::refused("a bare carriage return", with_fields(&format!("{HOST}A: b\rc\r\n"))),
        Row::refused("a NUL in a value", with_fields(&format!("{HOST}A: b\0c\r\n"))),
        Row::refused("a control byte in a value", with_fields(&format!("{HOST}A: b\x01c\r\n"))),
        Row::refused("a NUL in a name", with_fields(&format!("{HOST}A\0: b\r\n"))),
        Row::refused("bare line feeds", "GET / HTTP/1.1\nHost: t\n\n").ours(),
        Row::refused("one bare line feed", "GET / HTTP/1.1\r\nHost: t\n\r\n").ours(),
        Row::refused("129 fields", with_fields(&format!("{HOST}{}", fields(128)))).ours().status(&[431]),
        Row::refused("10,000 fields", with_fields(&format!("{HOST}{}", fields(10_000)))).ours().status(&[431]),
        Row::refused("a head of 61 KiB", with_fields(&format!("{HOST}A: {}\r\n", long(61 * 1024)))).ours().status(&[431]),
        Row::refused("a head of 1 MiB", with_fields(&format!("{HOST}A: {}\r\n", long(1 << 20)))).ours().status(&[431]),
        // Section 3: the request line.
        Row::refused("no version", with_line("GET /")),
        Row::refused("HTTP/1.2", with_line("GET / HTTP/1.2")),
        Row::refused("HTTP/2.0", with_line("GET / HTTP/2.0")),
        Row::refused("HTTP/01.1", with_line("GET / HTTP/01.1")),
        Row::refused("http/1.1", with_line("GET / http/1.1")),
        Row::refused("two spaces", with_line("GET  / HTTP/1.1")).ours(),
        Row::refused("a tab", with_line("GET\t/\tHTTP/1.1")),
        Row::refused("a space in the target", with_line("GET /a b HTTP/1.1")).ours(),
        Row::refused("a space after the version", with_line("GET / HTTP/1.1 ")),
        Row::refused("a fragment", with_line("GET /x#/../admin HTTP/1.1")).ours(),
        Row::refused("a target beyond ASCII", &b"GET /\xe9 HTTP/1.1\r\nHost: t\r\n\r\n"[..]),
        Row::refused("a target without a slash", with_line("GET admin HTTP/1.1")).ours(),
        Row::refused("a method with a parenthesis", with_line("G(T / HTTP/1.1")),
        Row::refused("a target of 9 KiB", with_line(&format!("GET /{} HTTP/1.1", long(9 * 1024)))).ours().status(&[414]),
        Row::refused("a query of 64 KiB", with_line(&format!("GET /?{} HTTP/1.1", long(64 * 1024)))).ours().status(&[414]),
        Row::refused("CONNECT", "CONNECT t:80 HTTP/1.1\r\nHost: t:80\r\n\r\n").status(&[405]),
        Row::refused("CONNECT with a body", "CONNECT t:80 HTTP/1.1\r\nHost: t:80\r\nContent-Length: 3\r\n\r\nabc")
            .status(&[405]),
        Row::refused("TRACE", with_line("TRACE / HTTP/1.1")).ours().status(&[405]),
        // RFC 9112 section 3.2: the host.
        Row::refused("no host", "GET / HTTP/1.1\r\n\r\n").ours(),
        Row::refused("two hosts", with_fields("Host: t\r\nHost: u\r\n")),
        Row::refused("two equal hosts", with_fields("Host: t\r\nHost: t\r\n")),
        Row::refused("a list of hosts", with_fields("Host: t, u\r\n")).ours(),
        Row::refused("userinfo", with_fields("Host: u@t\r\n")),
        Row::refused("a path in the host", with_fields("Host: t/x\r\n")).ours(),
        Row::refused("a space in the host", with_fields("Host: t u\r\n")).ours(),
        Row::refused("a port beyond 65535", with_fields("Host: t:99999\r\n")).ours(),
        Row::refused("a port of letters", with_fields("Host: t:b\r\n")).ours(),
        Row::refused("half an IPv6 address", with_fields("Host: [::1\r\n")).ours(),
        Row::refused("a host of 300 bytes", with_fields(&format!("Host: {}\r\n", long(300)))).ours(),
        Row::refused("a host beyond ASCII", &b"GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n"[..]).ours(),
        Row::refused("another host in the target", with_line("GET http://u/ HTTP/1.1")),
        // Paths that two parsers read in two ways.
        Row::refused("a NUL in the path", with_line("GET /admin%00x HTTP/1.1")).ours(),
        Row::refused("a backslash in the path", with_line("GET /a%5Cb HTTP/1.1")).ours(),
        Row::refused("a parameter on a dot segment", with_line("GET /pub/..;/admin HTTP/1.1")).ours(),
        Row::served("dot segments", with_line("GET /pub/../admin HTTP/1.1"), "get /admin http").ours(),
        Row::served("encoded dot segments", with_line("GET /pub/%2e%2E/admin HTTP/1.1"), "get /admin http").ours(),
        Row::served("an encoded letter", with_line("GET /%61dmin HTTP/1.1"), "get /admin http").ours(),
        // Section 7.1: chunks.
        Row::refused("a chunk size of 0x2", chunked("0x2\r\nab\r\n0\r\n\r\n")).in_body(),
        Row::refused("a chunk size with a sign", chunked("+2\r\nab\r\n0\r\n\r\n")).in_body(),
        Row::refused("a chunk size of -0", chunked("-0\r\n\r\n")).in_body(),
        Row::refused("a chunk size with an underscore", chunked("0_2\r\nab\r\n0\r\n\r\n")).in_body(),
        Row::refused("a chunk size after a space", chunked(" 2\r\nab\r\n0\r\n\r\n")).in_body(),
        Row::refused("an empty chunk size", chunked("\r\nab\r\n0\r\n\r\n")).ours().in_body(),
        Row::refused("a chunk size of 17 digits", chunked("10000000000000002\r\nab\r\n0\r\n\r\n")).in_body(),
        Row::refused("a chunk line that a line feed ends", chunked("2\nab\r\n0\r\n\r\n")).in_body(),
        Row::refused("chunk data without an end", chunked("2\r\nabX\r\n0\r\n\r\n")).in_body(),
        Row::refused("chunk data that a line feed ends", chunked("2\r\nab\n0\r\n\r\n")).in_body(),
        Row::refused("an empty line before the last chunk", chunked("2\r\nab\r\n\r\n0\r\n\r\n")).ours().in_body(),
        Row::refused("an extension of 16 KiB", chunked(&format!("2;{}\r\nab\r\n0\r\n\r\n", long(16 * 1024)))).ours()
            .status(&[431])
            .in_body(),
        Row::refused("a trailer section of 1 MiB", chunked(&format!("0\r\nA: {}\r\n\r\n", long(1 << 20)))).ours()
            .status(&[431])
            .in_body(),
        Row::refused("a trailer without a colon", chunked("0\r\nA\r\n\r\n")).ours().in_body(),
        // Tunnels.
        Row::served(
            "a tunnel that nobody opened",
            format!("GET / HTTP/1.1\r\n{HOST}Connection: upgrade\r\nUpgrade: foo\r\n\r\nGET /second HTTP/1.1\r\nHost: u\r\n\r\n"),
            "get / http",
        )
        .upstream(Upstream::HasNot("/second")),
        // Hop-by-hop fields (RFC 9110 section 7.6.1).
        Row::served(
            "connection names our own headers",
            with_fields("Host: t\r\nConnection: close, X-Forwarded-For, X-Real-IP\r\n"),
            "x-forwarded-for: 127",
        ).ours(),
        Row::served("hop-by-hop fields", with_fields("Host: t\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n"), "get /")
            .upstream(Upstream::HasNot("proxy-connection")),
        Row::served("fields named by connection", with_fields("Host: t\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"), "get /")
            .upstream(Upstream::HasNot("x-hop: 1")),
    ]
}

/// What must be served.
pub(crate) fn controls() -> Vec<Row> {
    let fields: String = (0..90).map(|number| format!("X-{number}: y\r\n")).collect();
    let cookie = format!("Host: t\r\nCookie: {}\r\n", "c".repeat(8192));
    vec![
        Row::served(
            "chunked in mixed case, with an extension",
            format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n"),
            "hello",
        ),
        Row::served("a line end before the request", format!("\r\nGET /x HTTP/1.1\r\n{HOST}\r\n"), "get /x"),
        Row::served("the absolute form", with_line("GET http://t/a%20b HTTP/1.1"), "get /a%20b http").ours(),
        Row::served("90 fields", with_fields(&format!("{HOST}{fields}")), "x-89: y"),
        Row::served("a cookie of 8 KiB", with_fields(&cookie), "cookie: cccc"),
        Row::served("a value beyond ASCII", &b"GET / HTTP/1.1\r\nHost: t\r\nA: \xe9\r\n\r\n"[..], "a: "),
        Row::served("an encoded space", with_line("GET /a%20b HTTP/1.1"), "get /a%20b http"),
        Row::served("an encoded comma", with_line("GET /a%2Cb HTTP/1.1"), "get /a%2cb http"),
        Row::served("an encoded slash", with_line("GET /a%2Fb HTTP/1.1"), "get /a%2fb http"),
        Row::served("a tilde", with_line("GET /~u HTTP/1.1"), "get /~u http"),
        Row::served("a parameter", with_line("GET /a;b HTTP/1.1"), "get /a;b http"),
        Row::served("a chunked body in pieces", chunked("2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"), "post /"),
        Row::served("a trailer", chunked("2\r\nab\r\n0\r\nA: b\r\n\r\n"), "post /"),
        Row::served("a body of zero bytes", with_fields("Host: t\r\nContent-Length: 0\r\n"), "get /"),
        Row::served("a body of a GET", "GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nab", "\r\n\r\nab"),
        Row::served("upper case in the host", with_fields("Host: T\r\n"), "get /"),
        Row::served(
            "pipelined requests",
            format!("GET /1 HTTP/1.1\r\n{HOST}\r\nGET /2 HTTP/1.1\r\n{HOST}\r\n"),
            "get /2",
        )
        .ours(),
        Row::served(
            "a body, then a pipelined request",
            format!("POST /1 HTTP/1.1\r\n{HOST}Content-Length: 2\r\n\r\nabGET /2 HTTP/1.1\r\n{HOST}\r\n"),
            "get /2",
        )
        .ours(),
    ]
}
