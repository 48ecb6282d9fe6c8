//! What each annotation takes, and what it does not, from ingress-nginx's own grammar.

/// An annotation that works: values that ingress-nginx's grammar accepts, and values that it does not.
pub(super) struct Works {
    pub(super) name: &'static str,
    pub(super) accepted: &'static [&'static str],
    pub(super) refused: &'static [&'static str],
}

/// An annotation that restricts access: a value that asks for the restriction, and those that do not.
pub(super) struct Restricts {
    pub(super) name: &'static str,
    pub(super) activating: &'static str,
    pub(super) idle: &'static [&'static str],
}

const BOOLEANS: &[&str] = &["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
const NO_BOOLEANS: &[&str] = &["yes", "no", "on", "off", "tRUE", "truE", "2", "-1", "true ", " true", "\"true\""];
const CODES: &[&str] = &["301", "302", "303", "307", "308", "300"];
const NO_CODES: &[&str] = &["200", "299", "304", "305", "306", "309", "400", "-301", "301.0", "0x12d", "3xx", "70000"];
/// Annotations whose white space at the end does not matter.
pub(super) const TRIMMED: &[&str] = &[
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
pub(super) const SPACED: &[&str] = &[
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
pub(super) const DENIES_WHEN_EMPTY: &[&str] = &["allowlist-source-range", "denylist-source-range"];

const SIZES: &[&str] = &["1", "8k", "8K", "10m", "1g", "512b", "4096"];
const NO_SIZES: &[&str] = &["-1", "+1", "1.5m", "8kb", "8 k", "k", "0x10", "99999999999999999999", "17179869184g"];
const NO_SWITCHES: &[&str] = &["ON", "true", "1", "on ", "onoff"];
/// Annotations that are read, and change nothing that can be seen: bodies are passed on as they come, and connections to
/// authentication servers are always kept.
pub(super) const INVISIBLE: &[&str] = &[
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

pub(super) const DONE: &[Works] = &[
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

pub(super) const DENIES: &[Restricts] = &[
    Restricts { name: "ssl-passthrough", activating: "true", idle: &["false", "0", ""] },
    Restricts { name: "enable-modsecurity", activating: "true", idle: &["false", ""] },
    Restricts { name: "enable-owasp-core-rules", activating: "True", idle: &["f", ""] },
    Restricts { name: "modsecurity-snippet", activating: "SecRuleEngine On\n", idle: &[""] },
    Restricts { name: "configuration-snippet", activating: "deny all;\n", idle: &["", "\n"] },
    Restricts { name: "server-snippet", activating: "location /x {\n  deny all;\n}\n", idle: &[""] },
    Restricts { name: "auth-snippet", activating: "proxy_set_header X y;", idle: &[""] },
    Restricts { name: "stream-snippet", activating: "server {}", idle: &[""] },
];

pub(super) const WARNS: &[&str] = &[
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
