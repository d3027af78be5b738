//! Live progress: one bar for each campaign, one line for the simulator.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use sluice_loadtest::harness::Customer;
use sluice_loadtest::harness::client::shown;
use sluice_loadtest::sim::SimHandle;
use sluice_loadtest::witness::watch;
use sluice_proto::v1;

/// A campaign that is being watched over the stream of its progress.
pub(crate) struct Watched {
    id: String,
    seen: Arc<Mutex<watch::Watched>>,
}

impl Watched {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), seen: Arc::default() }
    }

    /// Follows the campaign's stream in a task of its own until it ends or breaks.
    pub(crate) fn follow(&self, customer: Customer) {
        let (id, seen) = (self.id.clone(), Arc::clone(&self.seen));
        tokio::spawn(async move {
            let request = v1::WatchCampaignRequest {
                campaign_id: id,
                max_updates_per_second: 10.0,
                until: v1::WatchUntil::Settled.into(),
            };
            let Ok(stream) = customer.campaigns().watch_campaign(request).await else {
                return;
            };
            let mut stream = stream.into_inner();
            while let Ok(Some(answer)) = stream.message().await {
                if let Some(update) = answer.update {
                    seen.lock().take(update);
                }
            }
        });
    }

    /// Nothing can leave any more.
    pub(crate) fn ended(&self) -> bool {
        use v1::CampaignState::{Cancelled, Completed, Failed};
        matches!(self.seen.lock().campaign().state(), Completed | Cancelled | Failed)
    }

    fn stats(&self) -> v1::CampaignStats {
        self.seen.lock().campaign().stats.clone().unwrap_or_default()
    }

    /// Messages that have left.
    pub(crate) fn gone(&self) -> u64 {
        let tally = self.stats().tally.unwrap_or_default();
        tally.total.saturating_sub(shown(&tally, v1::MessageStatus::Pending))
    }
}

/// The bars.
pub(crate) struct Display {
    _all: MultiProgress,
    bars: Vec<ProgressBar>,
    foot: ProgressBar,
    news: ProgressBar,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▉▊▋▌▍▎▏ ")
}

/// A bar for an import.
pub(crate) fn import_bar(name: &str, rows: u64) -> ProgressBar {
    let bar = ProgressBar::new(rows).with_style(style("Importing    {msg:<16} {bar:30} {pos:>7}/{len} rows"));
    bar.set_message(name.to_owned());
    bar
}

impl Display {
    pub(crate) fn new(watched: &[Watched]) -> Self {
        let all = MultiProgress::new();
        let bar = |one: &Watched| {
            let bar = all.add(ProgressBar::new(1).with_style(style("{prefix:<16} {bar:24} {pos:>6}/{len} {msg}")));
            bar.set_prefix(one.id.clone());
            bar
        };
        let bars = watched.iter().map(bar).collect();
        let foot = all.add(ProgressBar::new_spinner().with_style(style("{prefix:<16} {msg}")));
        foot.set_prefix("simulator");
        let news = all.add(ProgressBar::new_spinner().with_style(style("{spinner} {msg}")));
        news.enable_steady_tick(Duration::from_millis(120));
        Self { _all: all, bars, foot, news }
    }

    pub(crate) fn draw(&self, watched: &[Watched], sim: Option<&SimHandle>) {
        for (bar, one) in self.bars.iter().zip(watched) {
            let stats = one.stats();
            let tally = stats.tally.clone().unwrap_or_default();
            let stage =
                |stage: v1::Stage| tally.by_stage.iter().find(|c| c.stage == stage as i32).map_or(0, |c| c.count);
            bar.set_length(tally.total.max(1));
            bar.set_position(one.gone());
            let doubt = shown(&tally, v1::MessageStatus::InDoubt);
            let doubt = if doubt > 0 { format!(", {doubt} in doubt") } else { String::new() };
            bar.set_message(format!(
                "{:>5.0}/s, sent {} delivered {} read {} failed {}{doubt} [{}]",
                stats.current_rate,
                stage(v1::Stage::Sent),
                stage(v1::Stage::Delivered),
                stage(v1::Stage::Read),
                shown(&tally, v1::MessageStatus::Failed),
                if one.ended() { "all sent" } else { binds(stats.binding_limit()) }
            ));
        }
        if let Some(sim) = sim {
            let stats = sim.stats();
            self.foot.set_message(format!(
                "accepted {}, {} webhooks acknowledged with {} statuses, {} statuses to come",
                sim.accepted(),
                stats.posts_acked,
                stats.statuses_acked,
                stats.statuses_outstanding
            ));
        }
    }

    pub(crate) fn say(&self, news: &str) {
        self.news.set_message(news.to_owned());
    }

    pub(crate) fn finish(&self) {
        self.bars.iter().chain([&self.foot, &self.news]).for_each(ProgressBar::abandon);
    }
}

/// What holds a campaign back, in words.
fn binds(limit: v1::BindingLimit) -> &'static str {
    use v1::BindingLimit as L;
    match limit {
        L::Unspecified => "nothing holds it",
        L::Rate => "own rate",
        L::Workers => "own workers",
        L::LineCeiling => "line ceiling",
        L::LineSlowed => "slowed by the provider",
        L::LineInFlight => "line's in-flight maximum",
        L::LineHeld => "lines held or probing",
        L::Store => "store",
        L::RetryWait => "waiting for retries",
        L::Schedule => "waiting for its start",
        L::Paused => "paused",
        L::Held => "held",
        L::Drained => "all handed out",
    }
}
