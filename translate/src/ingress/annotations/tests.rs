use super::*;
use crate::problem::Severity;

const NGINX: &str = "nginx.ingress.kubernetes.io";
const PENSTOCK: &str = "penstock.dev";

/// An annotation that works: values that ingress-nginx's grammar accepts, and values that it does not.
struct Works {
    name: &'static str,
    accepted: &'static [&'static str],
    refused: &'static [&'static str],
}

/// An annotation that restricts access: a value that asks for the restriction, and those that do not.
struct Restricts {
    name: &'static str,
    activating: &'static str,
    idle: &'static [&'static str],
}

const BOOLEANS: &[&str] = &["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
const NO_BOOLEANS: &[&str] = &["yes", "no", "on", "off", "tRUE", "truE", "2", "-1", "true ", " true", "\"true\""];
const CODES: &[&str] = &["301", "302", "303", "307", "308", "300"];
const NO_CODES: &[&str] = &["200", "299", "304", "305", "306", "309", "400", "-301", "301.0", "0x12d", "3xx", "70000"];
/// Annotations whose white space at the end does not matter.
const TRIMMED: &[&str] = &[
    "upstream-vhost",
    "affinity",
    "backend-protocol",
    "load-balance",
    "proxy-next-upstream",
    "session-cookie-samesite",
    "affinity-mode",
    "affinity-canary-behavior",
    "canary-by-header",
    "canary-by-header-value",
    "canary-by-cookie",
];
const SECONDS: &[&str] = &["1", "5", "3600", "86400"];
const NO_SECONDS: &[&str] = &["0", "-1", "60s", "1m", "1.5", "x", "99999999999"];
const URLS: &[&str] = &[
    "https://www.example.org",
    "http://example.org:8080/a/b?c=d&e=f,g",
    "HTTPS://Example.org/~user/",
    "https://$host$request_uri",
    "$scheme://example.org$uri?from=$arg_q",
    "https://example.org/../x",
];
const NO_URLS: &[&str] = &[
    "www.example.org",
    "ftp://example.org",
    "javascript://example.org",
    "https:/example.org",
    "https://example.org/a b",
    "https://example.org/\u{fc}",
    "https://example.org/$no_such_variable",
    "https://example.org/$",
    "$host/x",
];

const NETWORKS: &[&str] =
    &["10.0.0.0/8", "192.0.2.1", "10.0.0.0/8,2001:db8::/32 , 192.0.2.7", "10.1.2.3/8", "::1", "0.0.0.0/0"];
const NO_NETWORKS: &[&str] =
    &["10.0.0.0/33", "10.0.0.0/8,", "10.0.0.0-10.0.0.9", "10.0.0", "localhost", "10.0.0.0/8 192.0.2.1", "any", ","];
const NO_NUMBERS: &[&str] = &["ten", "1.5", "1e3", "1s", " 1", "0x1", "99999999999", "1,2"];
/// Annotations whose items, or whose end, may have spaces around them.
const SPACED: &[&str] = &[
    "custom-http-errors",
    "server-alias",
    "allowlist-source-range",
    "denylist-source-range",
    "limit-allowlist",
    "auth-realm",
    "cors-allow-origin",
    "cors-allow-methods",
    "cors-allow-headers",
    "cors-expose-headers",
    "auth-response-headers",
    "auth-cache-duration",
];
/// Annotations of which an empty value is not none.
const DENIES_WHEN_EMPTY: &[&str] = &["allowlist-source-range", "denylist-source-range"];

const SIZES: &[&str] = &["1", "8k", "8K", "10m", "1g", "512b", "4096"];
const NO_SIZES: &[&str] = &["-1", "+1", "1.5m", "8kb", "8 k", "k", "0x10", "99999999999999999999", "17179869184g"];
const NO_SWITCHES: &[&str] = &["ON", "true", "1", "on ", "onoff"];
/// Annotations that are read, and change nothing that can be seen: bodies are passed on as they come, and connections to
/// authentication servers are always kept.
const INVISIBLE: &[&str] = &[
    "proxy-request-buffering",
    "proxy-buffering",
    "proxy-buffers-number",
    "proxy-busy-buffers-size",
    "proxy-max-temp-file-size",
    "client-body-buffer-size",
    "auth-keepalive",
    "auth-keepalive-share-vars",
    "auth-keepalive-requests",
];

const DONE: &[Works] = &[
    Works {
        name: "custom-http-errors",
        accepted: &["404", "404,503", "404, 500 ,", "400,599"],
        refused: &["399", "600", "404;500", "4xx", "404 500", ",", "+404", "99999999999"],
    },
    Works {
        name: "mirror-target",
        accepted: &[
            "https://test.env.com/$request_uri",
            "https://test.env.com$request_uri",
            "http://mirror.default.svc:8080",
            "HTTP://192.0.2.1/copies?of=$host",
        ],
        refused: &[
            "mirror.test",
            "ftp://mirror.test/",
            "http:///x",
            "http://$host/",
            "http://mirror.test$host",
            "http://mirror.$host$request_uri",
            "http://mirror.test:0/",
            "http://mirror.test:$request_uri",
            "http://127.0.0.1/",
            "http://localhost/",
            "http://mirror.test/$1",
            "http://mirror.test/$nosuch",
            "http://mirror.test/;}",
            "http://mirror.test/ x",
        ],
    },
    Works { name: "mirror-request-body", accepted: &["on", "off"], refused: NO_SWITCHES },
    Works {
        name: "mirror-host",
        accepted: &["copies.test", "192.0.2.1", "copies.test:8080"],
        refused: &["*.test", "copies test", "copies.test;", "copies.test:x", "copies.test:+1", "$host", ":80"],
    },
    Works { name: "disable-proxy-intercept-errors", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "from-to-www-redirect", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "relative-redirects", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "use-port-in-redirects", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works {
        name: "upstream-vhost",
        accepted: &[
            "web.example.com",
            "web:8080",
            "[::1]:80",
            "$service_name.$namespace.svc",
            "${host}",
            "$http_x_host",
        ],
        refused: &["a b", "a/b", "a,b", "u@a", "$1.example.com", "$nothing", "a;b", "\u{fc}.de"],
    },
    Works {
        name: "x-forwarded-prefix",
        accepted: &["/prefix", "prefix/a.b", "/v1/$1/x"],
        refused: &["/a b", "/a;b", "/a{1}", "/a\"b", "/$nothing", "/a?b"],
    },
    Works { name: "proxy-body-size", accepted: SIZES, refused: NO_SIZES },
    Works { name: "proxy-buffer-size", accepted: SIZES, refused: NO_SIZES },
    Works { name: "proxy-busy-buffers-size", accepted: SIZES, refused: NO_SIZES },
    Works { name: "proxy-max-temp-file-size", accepted: SIZES, refused: NO_SIZES },
    Works { name: "client-body-buffer-size", accepted: SIZES, refused: NO_SIZES },
    Works { name: "proxy-buffers-number", accepted: &["4", "8"], refused: &["four", "4k", "1.5"] },
    Works { name: "proxy-request-buffering", accepted: &["on", "off"], refused: NO_SWITCHES },
    Works { name: "proxy-buffering", accepted: &["on", "off"], refused: NO_SWITCHES },
    Works { name: "enable-access-log", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works {
        name: "custom-headers",
        accepted: &["mine", "default/mine", "a-b.c/d-e.f"],
        refused: &["/mine", "default/", "a/b/c", "Mine", "a_b"],
    },
    Works {
        name: "rewrite-target",
        accepted: &["/", "/$1", "/a-b._~c/$2:$1", "$1", "/$request_uri", "/../../etc", "https://example.org/$1"],
        // What starts with neither is never a path; what is no variable ends nginx.
        refused: &["a/$1", "/$", "/$nothing", "/a b", "/?x=1", "/%20", "/\u{fc}", "/a\\b", "/(.*)", "/a|b", "/*"],
    },
    Works { name: "use-regex", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works {
        name: "app-root",
        accepted: &["/", "/app1", "/a/b-c_d.e~f:g", "/$host", "//x"],
        refused: &["app1", "https://example.org/", "/a?b", "/a b", "/$", "/$nothing", "/\u{fc}", "/a\\b"],
    },
    Works { name: "ssl-redirect", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "force-ssl-redirect", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "preserve-trailing-slash", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "permanent-redirect", accepted: URLS, refused: NO_URLS },
    Works { name: "permanent-redirect-code", accepted: CODES, refused: NO_CODES },
    Works { name: "temporal-redirect", accepted: URLS, refused: NO_URLS },
    Works { name: "temporal-redirect-code", accepted: CODES, refused: NO_CODES },
    Works {
        name: "server-alias",
        accepted: &["a.example.com", "a.example.com,b.example.com", " *.example.com , A.example.com. ,", "a_b.c"],
        refused: &["~^www\\d+\\.example\\.com$", "*", "a.*.com", "*a.com", "a..b", "a b", "a:80", "a/b", "\u{fc}.de"],
    },
    Works {
        name: "default-backend",
        accepted: &["web", "a-1", "a"],
        refused: &["Web", "web-", "-web", "a.b", "team/web", "web:80", " web"],
    },
    Works {
        name: "backend-protocol",
        accepted: &["HTTP", "https", "AUTO_HTTP", "Grpc", " GRPCS "],
        refused: &["H2C", "AJP", "HTTP/2", "HTTP,HTTPS", "TCP"],
    },
    Works {
        name: "load-balance",
        accepted: &["round_robin", "ewma", "least_requests", "chash", "chashsubset", "sticky_balanced", " ewma "],
        refused: &["least_conn", "ip_hash", "EWMA", "round robin", "random"],
    },
    Works {
        name: "upstream-hash-by",
        accepted: &["$request_uri", "$binary_remote_addr", "${request_uri}-text", "$http_x_user$arg_q", "fixed"],
        refused: &["$request_uri;", "$", "$nothing", "a b", "$uri?", "\u{fc}"],
    },
    Works { name: "upstream-hash-by-subset", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "upstream-hash-by-subset-size", accepted: &["0", "3", "100"], refused: &["-1", "x", "1.5"] },
    Works { name: "service-upstream", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "proxy-connect-timeout", accepted: SECONDS, refused: NO_SECONDS },
    Works {
        name: "proxy-next-upstream",
        accepted: &[
            "error timeout",
            "off",
            "error  http_502 http_429 non_idempotent",
            "invalid_header",
            "http_500 off",
        ],
        refused: &["error,timeout", "http_501", "Error", "updating", "error; proxy_pass x"],
    },
    Works { name: "proxy-next-upstream-tries", accepted: &["0", "3"], refused: &["-1", "x", "1.5"] },
    Works { name: "proxy-next-upstream-timeout", accepted: &["0", "30"], refused: &["-1", "30s", "x"] },
    Works { name: "proxy-send-timeout", accepted: SECONDS, refused: NO_SECONDS },
    Works { name: "proxy-read-timeout", accepted: SECONDS, refused: NO_SECONDS },
    Works { name: "affinity", accepted: &["cookie", " cookie "], refused: &["Cookie", "ip", "true"] },
    Works { name: "affinity-mode", accepted: &["balanced", "persistent"], refused: &["sticky", "Balanced"] },
    Works {
        name: "session-cookie-name",
        accepted: &["route", "my.cookie_1-~"],
        refused: &["a;b", "a=b", "a b", "a,b"],
    },
    Works { name: "session-cookie-path", accepted: &["/", "/a/b?c=d"], refused: &["/a;Domain=x", "/a b", "/\u{fc}"] },
    Works { name: "session-cookie-domain", accepted: &["example.com", ".a-b.c"], refused: &["a;b", "a b", "*.a"] },
    Works {
        name: "session-cookie-samesite",
        accepted: &["None", "Lax", "Strict", "strict", " lax "],
        refused: &["no", "Lax;Secure", "true"],
    },
    Works { name: "session-cookie-conditional-samesite-none", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "session-cookie-max-age", accepted: &["0", "172800", "-1"], refused: &["1d", "x", "1.5"] },
    Works { name: "session-cookie-expires", accepted: &["0", "172800", "-1"], refused: &["1d", "x", "1.5"] },
    Works { name: "session-cookie-secure", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "session-cookie-change-on-failure", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "affinity-canary-behavior", accepted: &["sticky", "legacy"], refused: &["Sticky", "true"] },
    Works { name: "canary", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "canary-by-header", accepted: &["X-Canary", "x_canary"], refused: &["a;b", "a,b", "X:Y", "\u{fc}"] },
    Works { name: "canary-by-header-value", accepted: &["yes", "a/b:c ~d"], refused: &["a;b", "a\"b", "\u{fc}"] },
    Works {
        name: "canary-by-header-pattern",
        accepted: &["^(DE|AT)$", "[a-z]+", "a|b"],
        refused: &["(", "a;b", "(?<x>y", "a b", "\u{fc}"],
    },
    Works { name: "canary-by-cookie", accepted: &["canary", "a-b.c"], refused: &["a;b", "a=b", "\u{fc}"] },
    Works { name: "canary-weight", accepted: &["0", "30", "100", "1000"], refused: &["-1", "30%", "x", "0.5"] },
    Works { name: "canary-weight-total", accepted: &["100", "1000", "0"], refused: &["-1", "x"] },
    Works { name: "auth-type", accepted: &["basic"], refused: &["Basic", "bearer", "basic ", "basic,digest"] },
    Works {
        name: "auth-secret",
        accepted: &["users", "team-a/users.v1"],
        refused: &["Users", "a/b/c", "/users", "users/", "../users", "a b", "users:auth"],
    },
    Works { name: "auth-secret-type", accepted: &["auth-map", "auth-file"], refused: &["auth", "AUTH-FILE", "map"] },
    Works {
        name: "auth-realm",
        accepted: &["Members only", "a-b.c_d~e:f/g"],
        refused: &["Members; only", "\"", "a\"b", "x, Digest", "\u{fc}ber", "a=b"],
    },
    Works { name: "limit-rps", accepted: &["10", "0", "-1"], refused: NO_NUMBERS },
    Works { name: "limit-rpm", accepted: &["100"], refused: NO_NUMBERS },
    Works { name: "limit-connections", accepted: &["1"], refused: NO_NUMBERS },
    Works { name: "limit-burst-multiplier", accepted: &["3", "0"], refused: NO_NUMBERS },
    Works { name: "limit-allowlist", accepted: NETWORKS, refused: NO_NETWORKS },
    Works { name: "enable-cors", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works {
        name: "cors-allow-origin",
        accepted: &["https://a.test", "https://*.a.test:8443, http://b.test", "*", "null", "app://a.test,*"],
        refused: &[
            "a.test",
            "https://",
            "https://a.test/",
            "https://*",
            "https://a.*.test",
            "https://a:b",
            "HTTP://a",
            "*.a",
        ],
    },
    Works {
        name: "cors-allow-methods",
        accepted: &["GET, PUT", "GET", "PUT,PROPFIND"],
        refused: &["GET;PUT", "*", "G-T", "GET\tPUT"],
    },
    Works { name: "cors-allow-headers", accepted: &["X-A,X_B, Range"], refused: &["*", "X:A", "X A;", "\u{fc}"] },
    Works { name: "cors-expose-headers", accepted: &["*, X-A", "X-B"], refused: &["X:A", "X-A;", "\u{fc}"] },
    Works { name: "cors-allow-credentials", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "cors-max-age", accepted: &["600", "0"], refused: NO_NUMBERS },
    Works {
        name: "auth-url",
        accepted: &[
            "https://auth.example.com/verify",
            "http://auth.team.svc.cluster.local:4180/oauth2/auth?x=$request_uri",
            "HTTPS://$host/oauth2/auth",
            "http://auth.$host:8080",
            "http://10.0.0.7/",
        ],
        refused: &[
            "auth.example.com",
            "ftp://auth.example.com/",
            "$scheme://auth.example.com/",
            "https://",
            "https:///verify",
            "https://a..b/",
            "https://auth.example.com:0/",
            "https://auth.example.com:99999/",
            "https://auth.example.com:$arg_port/",
            "https://user@auth.example.com/",
            "https://*.example.com/",
            // Who vouches for a client is not for the client to say.
            "https://$http_x_auth/",
            "https://$arg_auth.example.com/",
            "https://$remote_addr/",
            // There is no path behind it that was matched.
            "https://auth.example.com/$1",
            "https://auth.example.com/$nothing",
            // Never a backend.
            "http://127.0.0.1/",
            "http://0.0.0.0/",
            "http://169.254.169.254/latest/meta-data",
            "http://224.0.0.1/",
            "http://localhost:10246/",
            "http://x.localhost/",
            "http://[::1]/",
        ],
    },
    Works {
        name: "auth-signin",
        accepted: &["https://login.example.com/start", "https://$host/oauth2/start?rd=$escaped_request_uri"],
        refused: &[
            "/start",
            "login.example.com",
            "javascript://x",
            "$scheme://x/",
            "https://a/$nothing",
            "https://a/$1",
        ],
    },
    Works {
        name: "auth-signin-redirect-param",
        accepted: &["rd", "back.to-me_1~"],
        refused: &["a=b", "a&b", "a b", "$x"],
    },
    Works {
        name: "auth-method",
        accepted: &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"],
        refused: &["get", "CONNECT", "GET POST", "GETT", "PURGE"],
    },
    Works {
        name: "auth-response-headers",
        accepted: &["X-User", "X-User, X_Role,Authorization", ",X-User,"],
        refused: &["X User", "X-User;", "X:User", "Host", "X-User, Content-Length", "transfer-encoding", "\u{fc}"],
    },
    Works {
        name: "auth-request-redirect",
        accepted: &["https://$host$request_uri", "/back", "$request_uri"],
        refused: &["https://a b", "https://a/$nothing", "https://a/$1", "\u{fc}"],
    },
    Works {
        name: "auth-proxy-set-headers",
        accepted: &["mine", "default/mine"],
        refused: &["/mine", "default/", "a/b/c", "Mine", "../x"],
    },
    Works {
        name: "auth-cache-key",
        accepted: &["$remote_user$http_authorization", "$cookie_session", "a-$host"],
        // One answer for everybody.
        refused: &["all", "$nothing", "$1", "$host;", "$host $uri"],
    },
    Works {
        name: "auth-cache-duration",
        accepted: &["200 202 401 5m", "10s", "200 1h, 401 30s", "200 500ms"],
        refused: &["200", "200 401", "5m 200", "2000 5m", "20 5m", "200 5x", "200 -5m", "any 5m", "200 5m; 401 5m"],
    },
    Works { name: "auth-always-set-cookie", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "auth-keepalive", accepted: &["10", "0"], refused: &["ten", "1.5", "10s"] },
    Works { name: "auth-keepalive-share-vars", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works { name: "auth-keepalive-requests", accepted: &["100"], refused: &["many", "1.5", "1e3"] },
    Works { name: "auth-keepalive-timeout", accepted: SECONDS, refused: NO_SECONDS },
    Works { name: "enable-global-auth", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works {
        name: "auth-tls-secret",
        accepted: &["default/clients", "clients"],
        refused: &["/clients", "default/", "a/b/c", "Clients", "../x"],
    },
    Works {
        name: "auth-tls-verify-client",
        accepted: &["on", "off", "optional", "optional_no_ca"],
        refused: &["ON", "true", "optional_ca", "none"],
    },
    Works { name: "auth-tls-verify-depth", accepted: &["2", "1", "0"], refused: &["-1", "256", "one", "1.5"] },
    Works {
        name: "auth-tls-error-page",
        accepted: &["https://example.org/no", "https://$host/no?from=$request_uri"],
        refused: &["/no", "@named", "=200 /no", "javascript://x", "https://a/$nothing"],
    },
    Works { name: "auth-tls-pass-certificate-to-upstream", accepted: BOOLEANS, refused: NO_BOOLEANS },
    Works {
        name: "auth-tls-match-cn",
        accepted: &["CN=client", "CN=(a|b)$", "CN=[a-z]+.example.com", "CN="],
        // CVE-2025-1097 came in here.
        refused: &["client", "O=x", "cn=client", "CN=(", "CN=a)|(b", "CN=a ) { return 200; } #", "CN=a;", "CN=a\"b"],
    },
    Works {
        name: "proxy-ssl-secret",
        accepted: &["default/ca", "ca"],
        refused: &["/ca", "default/", "a/b/c", "Ca", "../x"],
    },
    Works { name: "proxy-ssl-verify", accepted: &["on", "off"], refused: NO_SWITCHES },
    Works {
        name: "proxy-ssl-name",
        accepted: &["web.example.com", "web", "10.0.0.1"],
        refused: &["*.example.com", "a b", "$host", "a..b", "https://web", "web:443"],
    },
    Works { name: "proxy-ssl-server-name", accepted: &["on", "off"], refused: NO_SWITCHES },
    Works { name: "satisfy", accepted: &["any", "all"], refused: &["Any", "none", "any,all", "any ", "true"] },
    Works { name: "allowlist-source-range", accepted: NETWORKS, refused: NO_NETWORKS },
    Works { name: "denylist-source-range", accepted: NETWORKS, refused: NO_NETWORKS },
];

const DENIES: &[Restricts] = &[
    Restricts { name: "ssl-passthrough", activating: "true", idle: &["false", "0", ""] },
    Restricts { name: "enable-modsecurity", activating: "true", idle: &["false", ""] },
    Restricts { name: "enable-owasp-core-rules", activating: "True", idle: &["f", ""] },
    Restricts { name: "modsecurity-snippet", activating: "SecRuleEngine On\n", idle: &[""] },
    Restricts { name: "configuration-snippet", activating: "deny all;\n", idle: &["", "\n"] },
    Restricts { name: "server-snippet", activating: "location /x {\n  deny all;\n}\n", idle: &[""] },
    Restricts { name: "auth-snippet", activating: "proxy_set_header X y;", idle: &[""] },
    Restricts { name: "stream-snippet", activating: "server {}", idle: &[""] },
];

const WARNS: &[&str] = &[
    "proxy-http-version",
    "proxy-cookie-domain",
    "proxy-cookie-path",
    "proxy-redirect-from",
    "proxy-redirect-to",
    "connection-proxy-header",
    "http2-push-preload",
    "fastcgi-index",
    "fastcgi-params-configmap",
    "proxy-ssl-verify-depth",
    "proxy-ssl-ciphers",
    "proxy-ssl-protocols",
    "ssl-ciphers",
    "ssl-prefer-server-ciphers",
    "limit-rate",
    "limit-rate-after",
    "enable-rewrite-log",
    "enable-opentelemetry",
    "opentelemetry-trust-incoming-span",
    "opentelemetry-operation-name",
    "modsecurity-transaction-id",
];

type Parsed = Result<(Arc<Annotations>, Vec<Problem>), Vec<Problem>>;

fn parse(pairs: &[(&str, &str)]) -> Parsed {
    let annotations = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut problems = Problems::default();
    let parsed = Annotations::parse(Some(&annotations), &[NGINX.to_owned(), PENSTOCK.to_owned()], &mut problems);
    let Problems { errors, warnings } = problems;
    if errors.is_empty() { Ok((parsed, warnings)) } else { Err(errors) }
}

fn parse_one(name: &str, value: &str) -> Parsed {
    parse(&[(&format!("{NGINX}/{name}"), value)])
}

#[track_caller]
fn assert_refused(name: &str, value: &str) {
    let problems = parse_one(name, value).expect_err(&format!("{name}: {value:?} is accepted"));
    let [problem] = &problems[..] else { panic!("{name}: {problems:?}") };
    assert_eq!(problem.reason, Reason::AnnotationParsingFailed);
    assert_eq!(problem.severity, Severity::Error);
    assert_eq!(problem.field, format!("metadata.annotations[{NGINX}/{name}]"));
    assert!(!problem.message.contains('\n') && problem.message.len() < 4096, "{problem}");
}

#[test]
fn every_annotation_of_ingress_nginx_is_in_the_state_that_is_asked_for() {
    let of_state = |is_of: fn(&State) -> bool| -> Vec<&str> {
        let mut names: Vec<_> = ANNOTATIONS.iter().filter(|row| is_of(&row.state)).map(|row| row.name).collect();
        names.sort_unstable();
        names
    };
    let sorted = |names: Vec<&'static str>| -> Vec<&str> {
        let mut names = names;
        names.sort_unstable();
        names
    };
    let done = sorted(DONE.iter().map(|row| row.name).collect());
    let denies = sorted(DENIES.iter().map(|row| row.name).collect());
    let warns = sorted(WARNS.to_vec());
    assert_eq!(of_state(|state| matches!(state, State::Done(_) | State::DoneOrDenies(..))), done);
    assert_eq!(of_state(|state| matches!(state, State::Denies(..))), denies);
    assert_eq!(of_state(|state| matches!(state, State::Warns(_))), warns);
    let mut all = [done, denies, warns].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 136);
}

#[test]
fn a_value_of_the_grammar_is_accepted_and_leaves_its_trace() {
    for Works { name, accepted, refused: _ } in DONE {
        for value in *accepted {
            let (_, warnings) = parse_one(name, value).unwrap_or_else(|error| panic!("{name}: {value:?}: {error:?}"));
            assert_eq!(warnings, [], "{name}: {value:?}");
        }
        let traces: Vec<_> = accepted.iter().filter_map(|value| parse_one(name, value).ok()).collect();
        let has_trace = traces.iter().any(|(parsed, _)| **parsed != Annotations::default());
        assert_eq!(has_trace, !INVISIBLE.contains(name), "{name}");
    }
}

#[test]
fn a_value_out_of_the_grammar_refuses_the_object() {
    for Works { name, accepted: _, refused } in DONE {
        refused.iter().for_each(|value| assert_refused(name, value));
    }
}

#[test]
fn no_accepted_value_can_be_extended_into_configuration() {
    let injections =
        ["\n", "\r", "\r\n", ";", "}", "{", "$(", "${", "\"", "'", "#", "\0", " ", "\t", "\u{7f}", "`", "|", "<", "\\"];
    for Works { name, accepted, refused: _ } in DONE {
        for injection in injections {
            for end in ["", " return 200;", "\nx"] {
                let value = format!("{}{injection}{end}", accepted[0]);
                // White space around one of a few words is cut off, as it is in ingress-nginx.
                if TRIMMED.contains(name) && value.trim() == accepted[0] && !value.contains(['\n', '\r']) {
                    continue;
                }
                // These are signs of a regular expression.
                if ["canary-by-header-pattern", "auth-tls-match-cn"].contains(name)
                    && end.is_empty()
                    && matches!(injection, "|" | "}")
                {
                    continue;
                }
                let is_spaced = SPACED.contains(name) && (injection, end) == (" ", "");
                let is_trimmed = *name == "cors-allow-origin" && (injection, end) == ("\t", "");
                let is_list = ["server-alias", "limit-allowlist"].contains(name) || DENIES_WHEN_EMPTY.contains(name);
                if is_spaced || is_trimmed || (is_list && value.trim() == accepted[0] && !value.contains(['\n', '\r']))
                {
                    continue;
                }
                assert_refused(name, &value);
            }
        }
    }
}

#[test]
fn a_line_break_is_refused_wherever_it_stands() {
    for Works { name, accepted, refused: _ } in DONE {
        for value in [format!("\n{}", accepted[0]), format!("{}\n", accepted[0]), format!("{}\r", accepted[0])] {
            assert_refused(name, &value);
        }
    }
}

#[test]
fn a_value_of_64_kib_is_read_or_refused() {
    let long = "a".repeat(64 << 10);
    for Works { name, .. } in DONE {
        match *name {
            "rewrite-target" | "app-root" => assert!(parse_one(name, &format!("/{long}")).is_ok(), "{name}"),
            "permanent-redirect" | "temporal-redirect" => {
                assert!(parse_one(name, &format!("https://{long}")).is_ok(), "{name}");
            }
            _ => assert_refused(name, &long),
        }
        assert_refused(name, &"$".repeat(64 << 10));
        assert_refused(name, &"\u{fc}".repeat(32 << 10));
    }
    for name in DENIES.iter().map(|row| row.name).chain(WARNS.iter().copied()) {
        // A boolean or a number is refused; everything else is not looked at.
        if let Ok((_, warnings)) = parse_one(name, &long) {
            assert!(warnings.iter().all(|warning| warning.message.len() < 1000), "{name}");
        }
    }
}

#[test]
fn an_annotation_that_restricts_access_denies_by_its_activating_values_only() {
    for Restricts { name, activating, idle } in DENIES {
        let (parsed, problems) = parse_one(name, activating).unwrap();
        assert_eq!((parsed.denials.len(), parsed.host_denials.len()), (1, 0), "{name}");
        let [problem] = &problems[..] else { panic!("{name}: {problems:?}") };
        assert_eq!((problem.reason, problem.severity), (Reason::Denied, Severity::Error), "{name}");
        assert!(problem.message.contains(name), "{problem}");
        for value in *idle {
            let (parsed, problems) = parse_one(name, value).unwrap();
            assert_eq!(*parsed, Annotations::default(), "{name}: {value:?}");
            assert!(problems.iter().all(|problem| problem.severity == Severity::Warning), "{name}: {value:?}");
        }
    }
}

#[test]
fn a_restriction_that_cannot_be_read_refuses_the_object() {
    for (name, value) in [("ssl-passthrough", "yes"), ("enable-modsecurity", "on"), ("auth-always-set-cookie", "maybe")]
    {
        assert_refused(name, value);
    }
}

#[test]
fn what_is_known_and_not_spoken_is_denied() {
    for (name, value) in [("backend-protocol", "fcgi"), ("auth-type", "digest")] {
        let (parsed, problems) = parse_one(name, value).unwrap();
        assert_eq!((parsed.denials.len(), problems[0].reason), (1, Reason::Denied), "{name}");
    }
}

#[test]
fn a_harmless_annotation_warns_and_does_nothing_whatever_its_value() {
    for name in WARNS {
        for value in ["", "x", "true", "a\nb", "; }"] {
            let (parsed, problems) = parse_one(name, value).unwrap();
            assert_eq!(*parsed, Annotations::default(), "{name}");
            let [problem] = &problems[..] else { panic!("{name}: {problems:?}") };
            assert_eq!((problem.reason, problem.severity), (Reason::AnnotationIgnored, Severity::Warning), "{name}");
            assert!(problem.message.contains(name), "{problem}");
        }
    }
}

#[test]
fn an_empty_value_is_none() {
    for Works { name, .. } in DONE.iter().filter(|row| !DENIES_WHEN_EMPTY.contains(&row.name)) {
        for value in ["", " ", "\n"] {
            let (parsed, problems) = parse_one(name, value).unwrap();
            assert_eq!(*parsed, Annotations::default(), "{name}");
            assert_eq!(problems[0].reason, Reason::AnnotationIgnored, "{name}");
        }
    }
}

#[test]
fn an_empty_access_list_lets_nobody_in() {
    for name in DENIES_WHEN_EMPTY {
        for value in ["", " ", "\n"] {
            let (parsed, problems) = parse_one(name, value).unwrap();
            assert_eq!((parsed.denials.len(), problems[0].reason), (1, Reason::Denied), "{name} {value:?}");
        }
    }
}

#[test]
fn an_unknown_name_under_a_prefix_of_ours_warns() {
    let (parsed, problems) = parse(&[
        ("nginx.ingress.kubernetes.io/rewrite-targets", "/"),
        ("nginx.ingress.kubernetes.io/", "x"),
        ("penstock.dev/Rewrite-Target", "/"),
        ("nginx.ingress.kubernetes.io.example/use-regex", "true"),
        ("example.com/use-regex", "true"),
        ("use-regex", "true"),
        ("kubernetes.io/ingress.class", "nginx"),
    ])
    .unwrap();
    assert_eq!(*parsed, Annotations::default());
    let fields: Vec<_> = problems.iter().map(|problem| (problem.reason, problem.field.as_str())).collect();
    assert_eq!(
        fields,
        [
            (Reason::AnnotationUnknown, "metadata.annotations[nginx.ingress.kubernetes.io/]"),
            (Reason::AnnotationUnknown, "metadata.annotations[penstock.dev/Rewrite-Target]"),
            (Reason::AnnotationUnknown, "metadata.annotations[nginx.ingress.kubernetes.io/rewrite-targets]"),
        ]
    );
}

#[test]
fn the_prefix_that_stands_first_wins() {
    let both = [("penstock.dev/app-root", "/penstock"), ("nginx.ingress.kubernetes.io/app-root", "/nginx")];
    let root = |pairs: &[(&str, &str)]| parse(pairs).unwrap().0.app_root.clone().unwrap().as_str().to_owned();
    assert!(root(&both).ends_with("/nginx"));
    assert!(root(&both[..1]).ends_with("/penstock"));
    assert!(root(&[both[0], ("nginx.ingress.kubernetes.io/app-root", "")]).ends_with("/penstock"));
    // What loses is not looked at.
    assert!(parse(&[both[1], ("penstock.dev/app-root", "not a path")]).is_ok());
    assert!(parse(&[both[0], ("nginx.ingress.kubernetes.io/app-root", "not a path")]).is_err());
}

#[test]
fn an_older_spelling_is_the_same_annotation() {
    for (old, new) in [("whitelist-source-range", "allowlist-source-range"), ("limit-whitelist", "limit-allowlist")] {
        assert_eq!(parse_one(old, "10.0.0.0/8").unwrap().0, parse_one(new, "10.0.0.0/8").unwrap().0);
        let (_, problems) = parse_one(old, "").unwrap();
        assert!(problems[0].field.contains(old) && problems[0].message.contains(new), "{problems:?}");
    }
    let (both, _) = parse(&[
        ("nginx.ingress.kubernetes.io/whitelist-source-range", "10.0.0.0/8"),
        ("nginx.ingress.kubernetes.io/allowlist-source-range", "192.0.2.0/24"),
    ])
    .unwrap();
    assert_eq!(both, parse_one("allowlist-source-range", "192.0.2.0/24").unwrap().0);
}

#[test]
fn every_bad_value_is_told_at_once() {
    let problems = parse(&[
        ("nginx.ingress.kubernetes.io/use-regex", "yes"),
        ("nginx.ingress.kubernetes.io/app-root", "app"),
        ("penstock.dev/canary", "no"),
        ("nginx.ingress.kubernetes.io/auth-url", "https://auth.example.com"),
    ])
    .unwrap_err();
    assert_eq!(problems.len(), 3);
}

#[test]
fn ingresses_without_annotations_share_one_value() {
    let first = Annotations::parse(None, &[], &mut Problems::default());
    let second = parse(&[("example.com/x", "y")]).unwrap().0;
    assert!(Arc::ptr_eq(&first, &second));
}
