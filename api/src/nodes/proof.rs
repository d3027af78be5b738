//! How nodes prove to each other that they belong to one installation: seals made with the node secret, which itself is never sent.
//!
//! The asker seals who asks whom for what, for which caller and with which message, beside a nonce of its own; the answer seals that
//! nonce. So neither side takes anything from a stranger, also where an advertised address leads to the wrong machine. The [`Ticket`]
//! is good once, for one term of the addressee and one message: whoever overhears a call can neither send it again nor put another
//! message behind its proof. Sealed are neither what follows the first message of a stream nor what is in an answer, and nothing is
//! hidden: where somebody may stand between the nodes, `[tls.nodes]` keeps them out.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use subtle::ConstantTimeEq as _;

/// Fewest bytes of a secret: what `openssl rand -hex 16` prints.
pub const SECRET_BYTES_MIN: usize = 32;

/// Bytes of a nonce.
const NONCE_BYTES: usize = 16;

/// The installation's node secret. Never shown.
#[derive(Clone)]
pub struct NodeSecret(hmac::Key);

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
    /// The [`Ticket`], as it is sent.
    pub(super) ticket: &'a str,
}

/// Which call it is: good once. Sent as `asker's epoch.addressee's epoch.number.digest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    /// Of the asker's term.
    pub(super) from_epoch: u64,
    /// Of the addressee's term.
    pub(super) to_epoch: u64,
    /// Rises with every call of the asker.
    pub(super) number: u64,
    /// Of the first message, see [`digest`].
    pub(super) digest: String,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.from_epoch, self.to_epoch, self.number, self.digest)
    }
}

impl Ticket {
    /// As it was sent; `None`: it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '.');
        let mut number = || parts.next()?.parse().ok();
        let (from_epoch, to_epoch, number) = (number()?, number()?, number()?);
        Some(Self { from_epoch, to_epoch, number, digest: parts.next()?.to_owned() })
    }
}

/// The digest of a message, as it is sent.
pub(super) fn digest(message: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, message))
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
        (text.len() >= SECRET_BYTES_MIN).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())))
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
        let mut mac = hmac::Context::with_key(&self.0);
        for field in fields {
            mac.update(&(field.len() as u64).to_le_bytes());
            mac.update(field);
        }
        URL_SAFE_NO_PAD.encode(mac.sign())
    }
}

fn asked<'a>(nonce: &'a str, claim: &Claim<'a>) -> [&'a [u8]; 10] {
    let [tenant, subject, scopes] = claim.caller;
    let [nonce, from, to, path] = [nonce, claim.from, claim.to, claim.path].map(str::as_bytes);
    let [protocol, ticket] = [claim.protocol, claim.ticket].map(str::as_bytes);
    [b"sluice node asks", nonce, from, to, path, tenant, subject, scopes, protocol, ticket]
}

fn answered(nonce: &str) -> [&[u8]; 2] {
    [b"sluice node answers", nonce.as_bytes()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim<'static> {
        Claim { from: "a", to: "b", path: "/p", caller: [b"acme", b"ada", b"read"], protocol: "1", ticket: "1.2.3.d" }
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
            Claim { ticket: "1.2.4.d", ..claim() },
        ] {
            assert_eq!(secret('s').accept(&proof, &other), None, "{other:?}");
        }
        for broken in ["", ".", &proof[1..], &proof[..proof.len() - 1]] {
            assert_eq!(secret('s').accept(broken, &claim()), None, "{broken}");
        }
    }

    #[test]
    fn a_ticket_is_read_as_it_was_sent() {
        let ticket = Ticket { from_epoch: 3, to_epoch: u64::MAX, number: 0, digest: digest(b"it") };
        assert_eq!(Ticket::parse(&ticket.to_string()), Some(ticket));
        for broken in ["", "1.2.3", "1.2.x.d", "-1.2.3.d", "18446744073709551616.2.3.d"] {
            assert_eq!(Ticket::parse(broken), None, "{broken}");
        }
        assert_ne!(digest(b"it"), digest(b"it "));
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
