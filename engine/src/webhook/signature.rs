//! What both signature schemes share.

/// Why a POST is not believed. All are answered 401 and change nothing; they are apart for the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no signature header.
    #[error("no signature header")]
    Missing,
    /// The header does not have the form of a signature, or the body cannot be signed over in the form it claims.
    #[error("unreadable signature")]
    Malformed,
    /// A signature, but not of this body under any of our keys: a wrong secret, a wrong public URL, or a forgery.
    #[error("signature does not match")]
    Mismatch,
}

impl SignatureError {
    /// Every reason, for pre-registered metrics.
    pub const ALL: [Self; 3] = [Self::Missing, Self::Malformed, Self::Mismatch];

    /// The word for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Mismatch => "mismatch",
        }
    }
}
