//! Where an annotation that works does something else than in ingress-nginx.

/// Annotations with what their users should know, sorted by name.
pub const DIFFERENCES: &[(&str, &str)] = &[
    ("allowlist-source-range", "an empty list closes the paths with 503, it is not ignored"),
    ("auth-cache-duration", "no answer is kept for longer than a day"),
    ("auth-cache-key", "a key without variables, which would let one answer hold for every client, is refused"),
    ("auth-keepalive", "has no effect: connections to the authentication server are always kept"),
    ("auth-keepalive-requests", "has no effect: connections to the authentication server are always kept"),
    ("auth-keepalive-share-vars", "has no effect: variables are never shared"),
    ("auth-response-headers", "headers that frame a message, such as Host and Content-Length, are refused"),
    ("auth-secret", "hashes other than bcrypt, apr1, MD5-crypt and SHA-1 let nobody in"),
    ("auth-tls-match-cn", "the expression is looked for where an attribute of the subject begins, and nowhere else"),
    ("auth-tls-verify-depth", "no more than six certificates may stand in between"),
    ("auth-type", "digest closes the paths with 503"),
    ("auth-url", "$host and $http_host are the only variables that the host of the URL may have"),
    ("backend-protocol", "FCGI closes the paths with 503"),
    ("canary-by-header-pattern", LINEAR),
    ("client-body-buffer-size", "has no effect: bodies are passed on as they come"),
    ("cors-allow-origin", "an origin must match as a whole"),
    ("custom-http-errors", PAGES),
    ("default-backend", PAGES),
    ("denylist-source-range", "an empty list closes the paths with 503, it is not ignored"),
    (
        "mirror-target",
        "copies are HTTP/1.1, have the path of the request where the target has none, and are dropped beyond 1 MiB of body \
         or 256 at a time; no variable stands for the host",
    ),
    ("proxy-body-size", "a body of unknown length is passed on as it comes, and cut off when it is too large"),
    ("proxy-buffering", "has no effect: answers are passed on as they come"),
    ("proxy-buffers-number", "has no effect: answers are passed on as they come"),
    ("proxy-busy-buffers-size", "has no effect: answers are passed on as they come"),
    ("proxy-connect-timeout", NO_TIME),
    ("proxy-max-temp-file-size", "has no effect: no body is written to a file"),
    (
        "proxy-next-upstream",
        "no endpoint is tried twice for one request, and of ten requests one may be repeated, with a few more in reserve",
    ),
    ("proxy-next-upstream-tries", "0 tries every endpoint once"),
    ("proxy-read-timeout", NO_TIME),
    ("proxy-request-buffering", "has no effect: bodies are passed on as they come"),
    ("proxy-send-timeout", NO_TIME),
    (
        "proxy-ssl-verify",
        "without proxy-ssl-secret and proxy-ssl-name the paths answer 503; the name that is verified is sent as SNI",
    ),
    ("rewrite-target", LINEAR),
    ("server-alias", "regular expressions are refused"),
    ("use-regex", LINEAR),
];

const LINEAR: &str = "expressions are matched in linear time: one with look-around or a back-reference is refused";
const NO_TIME: &str = "0 is refused";
const PAGES: &str = "the page is asked for without the body of the request, and one of more than 1 MiB, or that nobody serves, \
                     leaves a plain error";

/// What the users of an annotation should know, by its name without prefix.
#[must_use]
pub fn difference(name: &str) -> Option<&'static str> {
    let index = DIFFERENCES.binary_search_by_key(&name, |(known, _)| known).ok()?;
    DIFFERENCES.get(index).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::super::table::{State, find};
    use super::*;

    #[test]
    fn differences_are_those_of_annotations_that_work() {
        assert!(DIFFERENCES.is_sorted_by_key(|(name, _)| *name));
        for (name, text) in DIFFERENCES {
            let state = find(name).unwrap_or_else(|| panic!("{name} is no annotation")).state;
            assert!(matches!(state, State::Done(_) | State::DoneOrDenies(..)), "{name} says itself what it does");
            assert_eq!(difference(name), Some(*text));
        }
        assert_eq!(difference("ssl-redirect"), None);
    }
}
