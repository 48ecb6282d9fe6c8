//! Files of users. No password is checked: that takes as long as the author of a hash wants it to.

#![no_main]

use libfuzzer_sys::fuzz_target;
use routing::Credentials;

fuzz_target!(|text: &[u8]| {
    let credentials = Credentials::from_htpasswd(text);
    assert!(credentials.n_unusable() <= text.split(|byte| *byte == b'\n').count());
    assert!(credentials.hash_of(b"").is_none(), "nobody has no name");
    assert!(format!("{credentials:?}").len() < 40, "users and hashes are not shown");
});
