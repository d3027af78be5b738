//! How nodes prove to each other that they belong to one installation: seals made with the node secret, which itself is never sent.
//!
//! The asker seals who asks whom for what, and for which caller, beside a nonce of its own; the answer seals that nonce. So neither
//! side takes anything from a stranger, also where an advertised address leads to the wrong machine. Whoever can read and change the
//! traffic between nodes could still send a sealed call again: on a network that others share, `[tls.nodes]` keeps them out.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// Fewest bytes of a secret: what `openssl rand -hex 16` prints.
pub const SECRET_BYTES_MIN: usize = 32;

/// Bytes of a nonce.
const NONCE_BYTES: usize = 16;

/// The installation's node secret. Never shown.
#[derive(Clone)]
pub struct NodeSecret(Hmac<Sha256>);

impl fmt::Debug for NodeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeSecret(redacted)")
    }
}

/// Everything that a seal is over: who asks whom for what, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim<'a> {
    /// The asker's name.
    pub(super) from: &'a str,
    /// The addressee's name.
    pub(super) to: &'a str,
    /// The call.
    pub(super) path: &'a str,
    /// The caller's tenant, subject and scopes; empty where a node asks for itself.
    pub(super) caller: [&'a [u8]; 3],
    /// What the asker understands, as it is sent.
    pub(super) protocol: &'a str,
}

/// The nonce of a call, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nonce(String);

impl Nonce {
    fn fresh() -> Self {
        Self(URL_SAFE_NO_PAD.encode(rand::random::<[u8; NONCE_BYTES]>()))
    }
}

impl NodeSecret {
    /// The secret from its text, of which every byte counts; `None`: it is too short.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        // HMAC takes a key of any length.
        let long_enough = text.len() >= SECRET_BYTES_MIN;
        long_enough.then(|| Hmac::new_from_slice(text.as_bytes()).ok().map(Self)).flatten()
    }

    /// What goes with a call: `nonce.seal`; and the nonce, to check the answer by.
    pub(super) fn ask(&self, claim: &Claim<'_>) -> (String, Nonce) {
        let nonce = Nonce::fresh();
        (format!("{}.{}", nonce.0, self.seal(&asked(&nonce.0, claim))), nonce)
    }

    /// Whether `proof` was made for this claim by somebody who knows the secret; then what goes with the answer.
    pub(super) fn accept(&self, proof: &str, claim: &Claim<'_>) -> Option<String> {
        let (nonce, seal) = proof.split_once('.')?;
        let is_right = bool::from(self.seal(&asked(nonce, claim)).as_bytes().ct_eq(seal.as_bytes()));
        is_right.then(|| self.seal(&answered(nonce)))
    }

    /// Whether `proof` answers the call with this nonce.
    pub(super) fn is_answer(&self, proof: &[u8], nonce: &Nonce) -> bool {
        self.seal(&answered(&nonce.0)).as_bytes().ct_eq(proof).into()
    }

    /// The seal over `fields`, each with its length before it.
    fn seal(&self, fields: &[&[u8]]) -> String {
        let mut mac = self.0.clone();
        for field in fields {
            mac.update(&(field.len() as u64).to_le_bytes());
            mac.update(field);
        }
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }
}

fn asked<'a>(nonce: &'a str, claim: &Claim<'a>) -> [&'a [u8]; 9] {
    let [tenant, subject, scopes] = claim.caller;
    let [nonce, from, to, path] = [nonce, claim.from, claim.to, claim.path].map(str::as_bytes);
    [b"sluice node asks", nonce, from, to, path, tenant, subject, scopes, claim.protocol.as_bytes()]
}

fn answered(nonce: &str) -> [&[u8]; 2] {
    [b"sluice node answers", nonce.as_bytes()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim<'static> {
        Claim { from: "a", to: "b", path: "/p", caller: [b"acme", b"ada", b"read"], protocol: "1" }
    }

    fn secret(fill: char) -> NodeSecret {
        NodeSecret::new(&String::from(fill).repeat(SECRET_BYTES_MIN)).unwrap()
    }

    #[test]
    fn who_knows_the_secret_is_believed_in_both_directions() {
        let (proof, nonce) = secret('s').ask(&claim());
        let answer = secret('s').accept(&proof, &claim()).unwrap();
        assert!(secret('s').is_answer(answer.as_bytes(), &nonce));
    }

    #[test]
    fn another_secret_is_refused_in_both_directions() {
        let (proof, nonce) = secret('s').ask(&claim());
        assert_eq!(secret('t').accept(&proof, &claim()), None);
        let answer = secret('s').accept(&proof, &claim()).unwrap();
        assert!(!secret('t').is_answer(answer.as_bytes(), &nonce));
        // A stranger that only repeats what it was sent.
        assert!(!secret('s').is_answer(proof.as_bytes(), &nonce) && !secret('s').is_answer(b"", &nonce));
    }

    #[test]
    fn a_seal_holds_for_nothing_else() {
        let (proof, _) = secret('s').ask(&claim());
        for other in [
            Claim { from: "c", ..claim() },
            Claim { to: "c", ..claim() },
            Claim { path: "/q", ..claim() },
            Claim { caller: [b"acm", b"eada", b"read"], ..claim() },
            Claim { caller: [b"acme", b"ada", b"read send"], ..claim() },
            Claim { protocol: "2", ..claim() },
        ] {
            assert_eq!(secret('s').accept(&proof, &other), None, "{other:?}");
        }
        for broken in ["", ".", &proof[1..], &proof[..proof.len() - 1]] {
            assert_eq!(secret('s').accept(broken, &claim()), None, "{broken}");
        }
    }

    #[test]
    fn an_answer_is_for_one_call() {
        let (first, _) = secret('s').ask(&claim());
        let (_, second) = secret('s').ask(&claim());
        let answer = secret('s').accept(&first, &claim()).unwrap();
        assert!(!secret('s').is_answer(answer.as_bytes(), &second));
    }

    #[test]
    fn a_short_secret_is_none_and_none_is_shown() {
        assert!(NodeSecret::new(&"x".repeat(SECRET_BYTES_MIN - 1)).is_none());
        assert_eq!(format!("{:?}", secret('s')), "NodeSecret(redacted)");
    }
}
