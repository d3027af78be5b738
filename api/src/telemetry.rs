//! Logs: text for people or JSON for machines, to standard error. No phone numbers, no message texts, no secrets: the types that
//! hold them hide them from `Debug`.

use std::io::{IsTerminal as _, stderr};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};

/// What libraries may say by default. ractor reports every actor's birth and death at `info`; the HTTP stack narrates frames; the CQL driver
/// reports each connection, and warns of a keepalive that is short because it is meant to be.
const LIBRARIES: &str = "ractor=warn,hyper=warn,h2=warn,tonic=warn,tower=warn,rustls=warn,\
    scylla::network=warn,scylla::cluster::worker=warn,scylla::client::session_builder=error";

/// Logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level or its directives cannot be read.
    #[error("must be a level (error, warn, info, debug, trace) or directives such as info,sluice_engine=debug: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something in this process logs already.
    #[error("logging is set up already: {0}")]
    Already(#[from] tracing_subscriber::util::TryInitError),
}

/// The filter for `level`: a level, or directives separated by commas; what it says of a library holds over our default.
///
/// # Errors
/// [`TelemetryError::Filter`].
pub fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    // A directive without a target is a level; a word that is no level would be taken for a target and silence everything else.
    for word in level.split(',').map(str::trim).filter(|word| !word.contains('=')) {
        word.parse::<tracing_subscriber::filter::Directive>()?;
        if word.parse::<tracing::level_filters::LevelFilter>().is_err() && !word.contains("::") {
            EnvFilter::builder().parse(format!("sluice={word}"))?;
        }
    }
    Ok(EnvFilter::builder().parse(format!("{LIBRARIES},{level}"))?)
}

/// Starts logging for the whole process, panics included.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    subscriber(log, stderr, stderr().is_terminal())?.try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let owned = payload.downcast_ref::<String>().map(String::as_str);
        let message = owned.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("(no text)");
        tracing::error!(place, thread = std::thread::current().name(), "panic: {message}");
    }));
    Ok(())
}

fn subscriber<W>(log: &Log, writer: W, colour: bool) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A log that cannot be written (its disk is full) must end nobody: by default the trouble is printed to standard error, which
    // panics when that is the very file.
    let base =
        tracing_subscriber::fmt().with_env_filter(filter(&log.level)?).with_writer(writer).log_internal_errors(false);
    Ok(match log.format {
        LogFormat::Text => Box::new(base.with_ansi(colour).finish()),
        LogFormat::Json => Box::new(base.json().flatten_event(true).with_span_list(false).finish()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let log = Log { format, level: level.to_owned() };
        let subscriber = subscriber(&log, move || writer.clone(), false).expect("the level is right");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(lines = 3, "started");
            tracing::debug!("detail");
            tracing::info!(target: "ractor::actor", "an actor was born");
            tracing::warn!(target: "ractor::actor", "an actor died");
        });
        let bytes = sink.0.lock().clone();
        String::from_utf8(bytes).expect("logs are text")
    }

    #[test]
    fn text_lines_at_the_level_and_libraries_at_warn() {
        let text = logged(LogFormat::Text, "info");
        assert!(text.contains("started") && text.contains("lines=3") && text.contains("died"), "{text}");
        assert!(!text.contains("detail") && !text.contains("born"), "{text}");
    }

    #[test]
    fn directives_hold_over_the_default_for_libraries() {
        assert!(logged(LogFormat::Text, "info,ractor=info").contains("born"));
    }

    #[test]
    fn every_json_line_is_an_object() {
        let text = logged(LogFormat::Json, "debug");
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[0]["message"].as_str(), lines[0]["lines"].as_u64()), (Some("started"), Some(3)));
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for wrong in ["loud", "info,sluice=loud", ""] {
            assert!(filter(wrong).is_err(), "{wrong:?}");
        }
    }
}
