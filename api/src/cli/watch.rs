//! `watch`: campaigns live, as bars on a terminal and as lines elsewhere.

use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sluice_proto::v1::{WatchCampaignRequest, WatchCampaignResponse, WatchUntil};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connect::Server;
use super::failure::{Exit, Failure, Outcome, is_passing};
use super::json;
use super::output::{Console, Format};
use super::progress::Progress;
use super::retry::Patience;
use super::values;

/// Steps on their way from the streams to the screen.
const STEPS: usize = 64;

/// When to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// When every message is final, or the wait for statuses is over
    Settled,
    /// When no message can leave any more
    Dispatched,
}

/// What to watch.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// The campaigns
    #[arg(value_name = "CAMPAIGN", required = true)]
    pub campaigns: Vec<String>,
    /// When to end
    #[arg(long, value_enum, default_value_t = Until::Settled)]
    pub until: Until,
    /// Changes per second at most, 0.1 to 20
    #[arg(long, value_name = "N", default_value_t = 4.0)]
    pub updates: f64,
    /// Where no bars can be drawn: a line no more often than this, per campaign
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    pub every: Duration,
    /// How long to try again when the server is away
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    pub retry_for: Duration,
}

/// What a stream says to the screen.
enum Step {
    Update(Box<WatchCampaignResponse>),
    Ended,
    Failed(Box<Failure>),
}

/// Runs `watch`.
pub async fn run(args: &WatchArgs, server: &Server, console: &mut Console, interrupt: &CancellationToken) -> Outcome {
    if !(0.1..=20.0).contains(&args.updates) {
        return Err(Failure::usage("--updates must be between 0.1 and 20"));
    }
    let (steps, mut arriving) = mpsc::channel(STEPS);
    let ending = interrupt.child_token();
    let _streams_end_with_us = ending.clone().drop_guard();
    for (index, campaign) in args.campaigns.iter().enumerate() {
        let request = WatchCampaignRequest {
            campaign_id: campaign.clone(),
            max_updates_per_second: args.updates,
            until: match args.until {
                Until::Settled => WatchUntil::Settled,
                Until::Dispatched => WatchUntil::Dispatched,
            } as i32,
        };
        let watching = follow(index, request, server.clone(), args.retry_for, steps.clone());
        let ending = ending.clone();
        tokio::spawn(async move { ending.run_until_cancelled(watching).await });
    }
    drop(steps);

    let mut screen = Screen::new(args, console);
    let mut failure = None;
    loop {
        // An interruption ends the streams, too: it must be seen before their end is.
        let (index, step) = tokio::select! {
            biased;
            () = interrupt.cancelled() => {
                screen.close(console)?;
                console.note(&format!(
                    "the watch ended; the server goes on by itself. `sluice pause {}` stops the sending.",
                    args.campaigns.join(" ")
                ));
                return Ok(Exit::Interrupted);
            }
            step = arriving.recv() => match step {
                Some(step) => step,
                None => break,
            },
            () = screen.due() => {
                screen.tell(console)?;
                continue;
            }
        };
        match step {
            Step::Update(update) => screen.update(index, *update, console)?,
            Step::Ended => screen.ended(index, console)?,
            Step::Failed(reason) => {
                let reason = reason.context(format_args!("campaign {}", args.campaigns[index]));
                failure = Some(failure.map_or(reason.exit, |_| Exit::Partial));
                screen.failed(&reason, console);
            }
        }
    }
    screen.close(console)?;
    Ok(failure.unwrap_or(if screen.any_failed() { Exit::Failed } else { Exit::Ok }))
}

/// Watches one campaign until its stream ends, opening it again when it breaks: each new stream begins with a snapshot.
async fn follow(
    index: usize,
    request: WatchCampaignRequest,
    server: Server,
    retry_for: Duration,
    steps: mpsc::Sender<(usize, Step)>,
) {
    let mut patience = Patience::new(retry_for);
    let last = loop {
        let broken = match server.campaigns().watch_campaign(request.clone()).await {
            Err(status) => status,
            Ok(answer) => {
                let mut updates = answer.into_inner();
                loop {
                    match updates.message().await {
                        Ok(Some(update)) => {
                            patience.renew();
                            if steps.send((index, Step::Update(Box::new(update)))).await.is_err() {
                                return;
                            }
                        }
                        Ok(None) => {
                            let _ = steps.send((index, Step::Ended)).await;
                            return;
                        }
                        Err(status) => break status,
                    }
                }
            }
        };
        if !is_passing(&broken) || !patience.wait().await {
            break broken;
        }
    };
    // The screen is gone only when the command is.
    let _ = steps.send((index, Step::Failed(Box::new(last.into())))).await;
}

/// One watched campaign on the screen.
struct Pane {
    progress: Progress,
    bars: Vec<ProgressBar>,
    /// When its last line was written.
    told: Option<Instant>,
    /// Something has changed since.
    changed: bool,
}

/// Where progress is shown.
struct Screen {
    panes: Vec<Pane>,
    bars: Option<MultiProgress>,
    width: usize,
    every: Duration,
}

impl Screen {
    fn new(args: &WatchArgs, console: &Console) -> Self {
        const WIDTH: usize = 80;
        let draw = console.for_people() && console.interactive && console.width.is_some();
        let bars = draw.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        let pane = |_: &String| Pane { progress: Progress::default(), bars: Vec::new(), told: None, changed: false };
        Self {
            panes: args.campaigns.iter().map(pane).collect(),
            bars,
            // One column short of the edge, where terminals wrap.
            width: console.width.map_or(WIDTH, |width| usize::from(width).saturating_sub(1)),
            every: args.every,
        }
    }

    fn update(&mut self, index: usize, update: WatchCampaignResponse, console: &mut Console) -> Outcome<()> {
        let Some(pane) = self.panes.get_mut(index) else { return Ok(()) };
        if console.format != Format::Table {
            json::write_line(&mut console.out, &update)?;
            console.out.flush()?;
        }
        pane.progress.apply(update);
        match &self.bars {
            Some(bars) => draw(bars, pane, self.width),
            None => {
                pane.changed = true;
                // The first is told at once, the others when they are due.
                if pane.told.is_none() {
                    return self.tell(console);
                }
            }
        }
        Ok(())
    }

    /// Waits until a line is to be written; for ever when nothing has changed.
    async fn due(&self) {
        let changed = self.panes.iter().filter(|pane| pane.changed);
        let next = changed.map(|pane| pane.told.map_or_else(Instant::now, |told| told + self.every)).min();
        match next {
            Some(next) => tokio::time::sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    /// Writes the lines that are due.
    fn tell(&mut self, console: &mut Console) -> Outcome<()> {
        for pane in &mut self.panes {
            if pane.changed && pane.told.is_none_or(|told| told.elapsed() >= self.every) {
                pane.told = Some(Instant::now());
                pane.changed = false;
                console.say(&pane.progress.log_line())?;
            }
        }
        Ok(())
    }

    /// The last word on a campaign is always told, once.
    fn ended(&mut self, index: usize, console: &mut Console) -> Outcome<()> {
        match self.panes.get_mut(index) {
            Some(pane) if self.bars.is_none() && (pane.changed || pane.told.is_none()) => {
                pane.changed = false;
                console.say(&pane.progress.log_line())
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, failure: &Failure, console: &mut Console) {
        let json = !console.for_people();
        match &self.bars {
            Some(bars) => bars.suspend(|| failure.print(&mut console.err, json)),
            None => failure.print(&mut console.err, json),
        }
    }

    /// Leaves the last picture standing among the answers.
    fn close(&self, console: &mut Console) -> Outcome<()> {
        let Some(bars) = &self.bars else { return Ok(()) };
        bars.clear()?;
        bars.set_draw_target(ProgressDrawTarget::hidden());
        for pane in &self.panes {
            for line in pane.progress.lines(self.width) {
                console.say(&line)?;
            }
        }
        Ok(())
    }

    fn any_failed(&self) -> bool {
        self.panes.iter().any(|pane| pane.progress.failed())
    }
}

/// Each line is a bar of its own to the drawing library, which then moves the cursor and nothing else.
fn draw(bars: &MultiProgress, pane: &mut Pane, width: usize) {
    let lines = pane.progress.lines(width);
    if pane.bars.is_empty() {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        pane.bars = lines.iter().map(|_| bars.add(ProgressBar::no_length().with_style(style.clone()))).collect();
    }
    for (bar, line) in pane.bars.iter().zip(lines) {
        bar.set_message(line);
    }
}
