//! How a command ends: exit codes, and errors with all that the server says about them.

use std::io::Write;

use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::output::shown;

/// The exit codes, as `sluice --help` documents them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It worked.
    Ok = 0,
    /// It failed in a way that no other code names.
    Failed = 1,
    /// The command line was wrong; nothing was done.
    Usage = 2,
    /// The server does not know what was named.
    NotFound = 3,
    /// Refused: wrong state, invalid input, no permission.
    Refused = 4,
    /// The server could not be reached, or was too slow or too busy.
    Unavailable = 5,
    /// Done in part: rows were refused, or some campaigns of several failed.
    Partial = 6,
    /// Ctrl-C.
    Interrupted = 130,
}

/// The text on exit codes in the help.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  it worked
    1  it failed in a way that no other code names
    2  the command line was wrong; nothing was done
    3  the server does not know what was named
    4  refused: wrong state, invalid input, no permission
    5  the server could not be reached, or was too slow or too busy
    6  done in part: rows were refused, or some campaigns of several failed
  130  Ctrl-C";

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The field, as a path.
    pub field: String,
    /// What is wrong.
    pub description: String,
}

/// Why a command did not do what it was asked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The exit code.
    #[serde(skip)]
    pub exit: Exit,
    /// In words.
    pub message: Box<str>,
    /// The code of the server's answer, e.g. `FAILED_PRECONDITION`; empty when the server said nothing.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub code: &'static str,
    /// The stable reason, e.g. `CAMPAIGN_STATE`; empty when none was given.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: Box<str>,
    /// Wrong fields, and preconditions that do not hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
    /// Said by the way to the server, not by the server.
    #[serde(skip)]
    pub on_the_way: bool,
    /// Seconds after which the server suggests to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<f64>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

/// What commands answer.
pub type Outcome<T = Exit> = Result<T, Failure>;

impl Failure {
    /// A failure of our own.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into().into_boxed_str(),
            code: "",
            reason: Box::default(),
            violations: Vec::new(),
            on_the_way: false,
            retry_after_seconds: None,
            hints: Vec::new(),
        }
    }

    /// Wrong use of the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says first what was tried.
    #[must_use]
    pub fn context(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message).into();
        self
    }

    /// Of a failure on the way to the server: names the server, and what to look at.
    #[must_use]
    pub fn towards(self, server: &str) -> Self {
        if !self.on_the_way {
            return self;
        }
        let failure = self.context(server);
        if failure.message.contains("UnknownIssuer") {
            return failure
                .hint("its certificate is signed by none that this machine trusts: --ca-file names another authority");
        }
        if failure.message.contains("invalid peer certificate") {
            return failure.hint("its certificate is not for this name, or not for this day");
        }
        let (tls, other) =
            if server.starts_with("https://") { ("no [tls.grpc]", "http://") } else { ("[tls.grpc]", "https://") };
        failure.hint(format!(
            "does it run, and is this the address of [listen] grpc? With {tls} in its configuration it is {other}"
        ))
    }

    /// Prints it: lines for people, or one JSON object for programs.
    pub fn print(&self, err: &mut dyn Write, json: bool) {
        // Nobody is left to tell when standard error is closed.
        let _ = if json { self.print_json(err) } else { self.print_text(err) };
    }

    fn print_json(&self, err: &mut dyn Write) -> std::io::Result<()> {
        let text = serde_json::to_string(&serde_json::json!({ "error": self }))?;
        writeln!(err, "{text}")
    }

    fn print_text(&self, err: &mut dyn Write) -> std::io::Result<()> {
        writeln!(err, "error: {}", shown(&self.message))?;
        for violation in &self.violations {
            let text = format!("{}: {}", violation.field, violation.description);
            // A single violation often says in a detail what the message says already.
            if *violation.description != *self.message && text != *self.message {
                writeln!(err, "  {}", shown(&text))?;
            }
        }
        if let Some(seconds) = self.retry_after_seconds {
            writeln!(err, "  try again in {seconds:.1} s")?;
        }
        for hint in &self.hints {
            writeln!(err, "hint: {hint}")?;
        }
        Ok(())
    }
}

/// Output that nobody reads any more is no failure: `sluice … | head` ends like `head`.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let closed = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self::new(if closed { Exit::Ok } else { Exit::Failed }, format!("cannot write the output: {error}"))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let closed = error.chain().any(|cause| {
            cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
                || cause
                    .downcast_ref::<serde_json::Error>()
                    .is_some_and(|json| json.io_error_kind() == Some(std::io::ErrorKind::BrokenPipe))
        });
        Self::new(if closed { Exit::Ok } else { Exit::Failed }, format!("{error:#}"))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let mut failure = Self::new(exit_of(status.code()), message_of(&status));
        failure.code = code_name(status.code());
        // Our own clock's word has a cause, too; the call was under way then.
        failure.on_the_way =
            std::error::Error::source(&status).is_some_and(|cause| !cause.is::<tonic::TimeoutExpired>());
        if failure.on_the_way && failure.exit == Exit::Failed {
            failure.exit = Exit::Unavailable;
        }
        if let Some(info) = details.error_info() {
            failure.reason = info.reason.as_str().into();
        }
        if let Some(request) = details.bad_request() {
            failure.violations.extend(request.field_violations.iter().map(|violation| Violation {
                field: violation.field.clone(),
                description: violation.description.clone(),
            }));
        }
        if let Some(precondition) = details.precondition_failure() {
            failure.violations.extend(precondition.violations.iter().map(|violation| Violation {
                field: if violation.subject.is_empty() { violation.r#type.clone() } else { violation.subject.clone() },
                description: violation.description.clone(),
            }));
        }
        failure.retry_after_seconds =
            details.retry_info().and_then(|info| info.retry_delay).map(|delay| delay.as_secs_f64());
        match status.code() {
            Code::Unauthenticated => {
                failure.hint("put a token into the environment variable SLUICE_TOKEN, or name a file with --token-file")
            }
            // The first is the server's word, the second our own clock's.
            Code::DeadlineExceeded | Code::Cancelled if !failure.on_the_way => failure.hint(
                "what the server began it goes on with: look at it before you repeat the command. --timeout TIME waits longer, as far as \
                 request_timeout_ms and long_request_timeout_ms of the server go",
            ),
            Code::Aborted => failure.hint("it changed in the meantime: look at it again and repeat with its new etag"),
            _ => failure,
        }
    }
}

/// The server's words, or what the transport underneath says when there are none: "tcp connect error" alone explains nothing.
fn message_of(status: &Status) -> String {
    let mut message = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let text = error.to_string();
        if !text.is_empty() && !message.contains(&text) {
            message = if message.is_empty() { text } else { format!("{message}: {text}") };
        }
        cause = error.source();
    }
    if message.is_empty() { format!("the server answered {}", code_name(status.code())) } else { message }
}

/// Which exit code a code of gRPC becomes.
#[must_use]
pub fn exit_of(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Ok,
        Code::NotFound => Exit::NotFound,
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated
        | Code::PermissionDenied => Exit::Refused,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled => Exit::Unavailable,
        Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => Exit::Failed,
    }
}

/// Whether the same call may work a little later: the server is away, busy, or the connection broke.
#[must_use]
pub fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded)
        // A connection that breaks in the middle of a stream shows as a transport error inside.
        || (matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled)
            && std::error::Error::source(status).is_some())
}

/// The name of a code as the documentation of gRPC spells it.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn the_documented_codes_are_the_real_ones() {
        for exit in [
            Exit::Ok,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Refused,
            Exit::Unavailable,
            Exit::Partial,
            Exit::Interrupted,
        ] {
            let line = format!("{:>5}  ", exit as u8);
            assert!(EXIT_CODES.lines().any(|documented| documented.starts_with(&line)), "{exit:?} is not documented");
        }
    }

    #[test]
    fn details_are_shown_to_people_and_programs() {
        let mut details = ErrorDetails::new();
        details
            .add_bad_request_violation("settings.rate.count", "must be 1 to 10,000")
            .set_error_info("INVALID_CAMPAIGN", "sluice", [] as [(String, String); 0])
            .set_retry_info(Some(std::time::Duration::from_millis(1_500)));
        use tonic_types::StatusExt;
        let failure =
            Failure::from(Status::with_error_details(Code::InvalidArgument, "the campaign is not valid", details));
        assert_eq!(failure.exit, Exit::Refused);
        let mut text = Vec::new();
        failure.print(&mut text, false);
        assert_eq!(
            String::from_utf8(text).expect("text"),
            "error: the campaign is not valid\n  settings.rate.count: must be 1 to 10,000\n  try again in 1.5 s\n"
        );
        let mut json = Vec::new();
        failure.print(&mut json, true);
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(json["error"]["code"], "INVALID_ARGUMENT");
        assert_eq!(json["error"]["reason"], "INVALID_CAMPAIGN");
        assert_eq!(json["error"]["violations"][0]["field"], "settings.rate.count");
    }

    #[test]
    fn a_single_violation_is_said_once() {
        use tonic_types::StatusExt;
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("name", "is empty\x1b");
        let status = Status::with_error_details(Code::InvalidArgument, "name: is empty\x1b", details);
        let mut text = Vec::new();
        Failure::from(status).print(&mut text, false);
        assert_eq!(String::from_utf8(text).expect("text"), "error: name: is empty\\u{1b}\n");
    }

    #[test]
    fn who_waits_no_longer_hears_that_it_goes_on() {
        for code in [Code::DeadlineExceeded, Code::Cancelled] {
            let failure = Failure::from(Status::new(code, "Timeout expired"));
            assert_eq!(failure.exit, Exit::Unavailable);
            assert!(
                failure.hints.iter().any(|hint| hint.contains("goes on") && hint.contains("--timeout")),
                "{code:?}"
            );
        }
    }

    #[test]
    fn closed_pipes_are_no_failure() {
        let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::from(broken()).exit, Exit::Ok);
        assert_eq!(Failure::from(anyhow::Error::from(broken())).exit, Exit::Ok);
        assert_eq!(Failure::from(anyhow::Error::from(serde_json::Error::io(broken()))).exit, Exit::Ok);
        assert_eq!(Failure::from(anyhow::anyhow!("no")).exit, Exit::Failed);
    }
}
