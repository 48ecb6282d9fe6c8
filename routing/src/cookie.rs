//! Reading of request cookies (RFC 6265 section 5.4).

use http::{HeaderMap, header};

/// The cookies of a request, in the order of its header lines.
pub(crate) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim(), value.trim()))
}

/// The value of nginx's variable `$cookie_name`: the first one of this name, in any case.
pub(crate) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    cookies(headers).find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn cookies_are_found_in_every_line() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("a=1; b=x=y;c"));
        headers.append("cookie", HeaderValue::from_static("D=4;a=2"));
        assert_eq!(cookies(&headers).count(), 4);
        for (name, expected) in [("a", Some("1")), ("b", Some("x=y")), ("c", None), ("d", Some("4")), ("e", None)] {
            assert_eq!(cookie(&headers, name), expected, "{name}");
        }
    }
}
