//! The commands against a fake server on a real socket: what they ask, what they show, how they end.

mod fake;
mod fake_campaigns;
mod fake_rest;
mod import;
mod show;
mod steer;
mod stream;

use std::io::Write;
use std::sync::Arc;

use clap::Parser as _;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::failure::Exit;
use super::output::{Console, Format};
use super::{Cli, Command};
use fake::Fake;

/// A buffer that the test keeps an end of.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).expect("text")
    }
}

/// How a command ended and what it wrote.
#[derive(Debug)]
struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// What stands around a command.
#[derive(Default)]
struct Around {
    token: Option<String>,
    input: String,
    interactive: bool,
    interrupt: CancellationToken,
}

/// Runs a command line against a server. Nobody sits at the terminal.
async fn run<const N: usize>(fake: &Fake, line: [&str; N]) -> Ran {
    run_with(fake, Around::default(), line).await
}

async fn run_with<const N: usize>(fake: &Fake, around: Around, line: [&str; N]) -> Ran {
    let server = ["sluice", "--server", fake.address.as_str()];
    let line = server.into_iter().chain(line);
    let cli = Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
    let Command::Client(command) = &cli.command else { panic!("no command of a client") };
    let (out, err) = (Shared::default(), Shared::default());
    let mut console = Console {
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
        input: Box::new(std::io::Cursor::new(around.input.into_bytes())),
        format: cli.output,
        width: (cli.output == Format::Table).then_some(80),
        interactive: around.interactive,
    };
    let exit = super::run(&cli, command, around.token, &mut console, &around.interrupt).await;
    Ran { exit, out: out.text(), err: err.text() }
}

/// Whether a command line is taken.
fn parses<const N: usize>(line: [&str; N]) -> bool {
    Cli::try_parse_from(["sluice"].into_iter().chain(line)).is_ok()
}

#[test]
fn the_command_line_is_consistent() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}

#[test]
fn the_help_says_what_exit_codes_mean_and_no_secret_is_an_argument() {
    use clap::CommandFactory as _;
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("Exit codes:") && help.contains("130  Ctrl-C"), "{help}");
    assert!(help.contains("SLUICE_TOKEN"), "{help}");
    assert!(!parses(["info", "--token", "x"]));
}

#[test]
fn wrong_use_is_refused_by_the_command_line() {
    for line in [
        &["message", "c"][..],
        &["message", "c", "1", "--external-id", "x"],
        &["recount"],
        &["recount", "c", "--all"],
        &["lines", "create", "l", "--account", "a", "--provider", "meta", "--ceiling", "80"],
        &["lines", "create", "l", "--account", "a", "--provider", "fax", "--ceiling", "80", "--short-code", "1"],
        &["campaigns", "create", "c", "--template", "t", "--pool", "p", "--burst", "1"],
        &["templates", "put", "t"],
        &["watch"],
        &["resolve", "c", "--seq", "1"],
    ] {
        let error = Cli::try_parse_from(["sluice"].iter().chain(line)).expect_err("must be refused");
        assert_eq!(error.exit_code(), Exit::Usage as i32, "{line:?}: {error}");
    }
}
