//! Who gets through to a rule: nginx's access phase.

use routing::model::{Access, Satisfy, Verdict};

use crate::context::Client;
use crate::failure::Failure;

/// Whether a request gets through, by the conditions of its rule in nginx's order.
///
/// With `satisfy any` the first condition that is fulfilled lets the request through; what was refused before is
/// remembered and answered when none is, and where no condition speaks of the request there is nothing to refuse.
pub(crate) fn admit(access: &Access, client: Client) -> Result<(), Failure> {
    let mut refusal = None;
    match access.addresses.verdict(client.address) {
        Verdict::Granted if access.satisfy == Satisfy::Any => return Ok(()),
        Verdict::Refused if access.satisfy == Satisfy::All => return Err(Failure::Forbidden),
        Verdict::Refused => refusal = Some(Failure::Forbidden),
        Verdict::Granted | Verdict::Silent => {}
    }
    refusal.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use routing::model::AccessList;
    use routing::{Networks, Scheme};

    use super::*;

    #[test]
    fn an_access_list_lets_in_whom_it_names() {
        let networks = |text: &str| Networks::new(&[text.parse().unwrap()]);
        let addresses = AccessList { deny: networks("10.0.0.0/24"), allow: networks("10.0.0.0/8") };
        for (client, satisfy, expected) in [
            ("10.1.0.1", Satisfy::All, Ok(())),
            ("10.1.0.1", Satisfy::Any, Ok(())),
            ("10.0.0.1", Satisfy::All, Err(Failure::Forbidden)),
            ("10.0.0.1", Satisfy::Any, Err(Failure::Forbidden)),
            ("192.0.2.1", Satisfy::All, Err(Failure::Forbidden)),
        ] {
            let client = Client { address: client.parse().unwrap(), scheme: Scheme::Http, is_forwarded: false };
            assert_eq!(
                admit(&Access { addresses: addresses.clone(), satisfy }, client),
                expected,
                "{client:?} {satisfy:?}"
            );
        }
    }
}
