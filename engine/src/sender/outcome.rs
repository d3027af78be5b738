//! What follows an answer: the message's next event, and what it means for its line, account and campaign.

use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use ractor::ActorRef;

use super::Item;
use super::core::SenderCore;
use crate::domain::backoff::{Backoff, pair_delay};
use crate::domain::breaker::Outcome;
use crate::domain::campaign::Settings;
use crate::domain::ids::CampaignKey;
use crate::domain::message::Event;
use crate::domain::time::UnixMillis;
use crate::domain::trace::Step;
use crate::line::gate::LineShared;
use crate::metrics::{ProviderMetrics, outcome_name};
use crate::provider::{Act, Answer, Class, Transport, Verdict, classify};
use crate::supervisor::SupervisorMsg;
use crate::trace::{self, Span, Traces};

/// How an exchange ended.
pub(crate) enum Answered {
    /// With a whole answer.
    Response {
        /// HTTP status.
        status: u16,
        /// Its body.
        body: Bytes,
    },
    /// The head came, the body did not, or was too long.
    Unreadable {
        /// HTTP status.
        status: u16,
    },
    /// The connection broke.
    Broken {
        /// Before the first byte of the request.
        unwritten: bool,
    },
    /// No answer in time.
    TimedOut,
}

impl Answered {
    fn as_answer(&self) -> Answer<'_> {
        match self {
            Self::Response { status, body } => Answer::Http { status: *status, body },
            Self::Unreadable { status } => Answer::Transport(Transport::AnswerCut { status: *status }),
            Self::Broken { unwritten: true } => Answer::Transport(Transport::NothingWritten),
            Self::Broken { unwritten: false } => Answer::Transport(Transport::CutAfterWrite),
            Self::TimedOut => Answer::Transport(Transport::TimeoutAfterWrite),
        }
    }
}

/// Concludes attempts: one for the whole engine.
pub(crate) struct Outcomes {
    pub(crate) backoff: Backoff,
    pub(crate) error_run_max: u32,
    pub(crate) supervisor: ArcSwapOption<ActorRef<SupervisorMsg>>,
    pub(crate) metrics: ProviderMetrics,
}

/// The span of a request, part of its attempt's hand-out.
fn trace(traces: &Traces, core: &SenderCore, item: &Item, answered: &Answered, verdict: &Verdict, latency: Duration) {
    let key = item.attempt.key();
    let Some(trace) = traces.of(key.message) else { return };
    let outcome = outcome_name(verdict);
    let mut facts = trace::facts_of(key.message, key.attempt);
    facts.extend([
        ("sluice.line", item.line.key.0.into()),
        ("sluice.provider", item.line.record().kind.as_str().into()),
        ("sluice.outcome", outcome.into()),
    ]);
    if let Answered::Response { status, .. } | Answered::Unreadable { status } = answered {
        facts.push(("http.response.status_code", (*status).into()));
    }
    if let Some(failure) = verdict.failure() {
        facts.push(("sluice.code", failure.code.into()));
    }
    traces.finished(Span {
        name: "provider request",
        kind: trace::Kind::Client,
        place: trace.span(key.attempt, Step::Request),
        parent: Some(trace.span(key.attempt, Step::HandOut).span),
        link: None,
        began: trace::system_time(core.context.clock.wall()) - latency,
        took: latency,
        facts,
        trouble: (!matches!(verdict, Verdict::Accepted { .. })).then_some(outcome),
    });
}

/// Whether it stops lines.
fn of_line(act: Act) -> bool {
    matches!(act, Act::HoldLine | Act::HoldAccount | Act::PauseLine(_) | Act::PauseAccount(_))
}

/// Pause before a message that met a "slow down" tries again; up to as much again is added by chance.
const SLOWED_PAUSE: Duration = Duration::from_millis(500);

impl Outcomes {
    /// Reports the outcome of an attempt and does what follows from it.
    pub(super) fn conclude(&self, core: &SenderCore, mut item: Box<Item>, answered: Answered, latency: Duration) {
        let kind = item.line.record().kind;
        let verdict = classify(kind, answered.as_answer());
        let effects = verdict.effects();
        // A refusal comes sooner than an acceptance: by refusals' latency a line would be too narrow for its messages.
        let accepted = matches!(verdict, Verdict::Accepted { .. });
        let outcome = if effects.breaker { Outcome::Unclear } else { Outcome::Clear };
        core.learn(outcome, accepted.then_some(latency));
        self.metrics.concluded(kind, &verdict, latency);
        if let Some(traces) = &core.context.traces {
            trace(traces, core, &item, &answered, &verdict, latency);
        }
        if matches!(answered, Answered::Broken { unwritten: true }) {
            item.attempt.mark_unwritten();
        }
        if let Some(campaign) = item.attempt.campaign().cloned() {
            let failure = verdict.failure();
            if failure.is_none() {
                campaign.clear_errors();
            }
            let code = failure.map_or(0, |f| f.code);
            let reason = || failure.map(|f| format!("{} (code {code})", f.title)).unwrap_or_default();
            let began = core.context.clock.mono() - latency;
            // A late answer says nothing of what was released or resumed since it was asked for.
            let mended = campaign.was_resumed_since(began);
            let late = |act: Act| match act {
                Act::HoldCampaign | Act::PauseCampaign(_) => mended,
                act => of_line(act) && item.line.was_released_since(began),
            };
            if let Some(act) = effects.act.filter(|act| !late(*act)) {
                if act == Act::HoldCampaign {
                    campaign.shut_for_hold();
                }
                self.act(act, &item.line, campaign.key, reason());
            }
            if effects.bug_run && !mended && campaign.count_error(code, self.error_run_max) {
                campaign.shut_for_hold();
                let reason = format!("{} times in a row: {}", self.error_run_max, reason());
                self.tell(SupervisorMsg::ErrorRun(campaign.key, reason));
            }
        }
        let now = core.context.clock.wall();
        let event = {
            let settings = item.attempt.campaign().map(|c| c.record());
            let default = Settings::default();
            let settings = settings.as_deref().map_or(&default, |record| &record.settings);
            self.event(&item, verdict, settings, now)
        };
        match event {
            Some(event) => item.attempt.close(event),
            None => item.attempt.doubt(),
        }
    }

    /// The event of a verdict; `None`: in doubt.
    fn event(&self, item: &Item, verdict: Verdict, settings: &Settings, now: UnixMillis) -> Option<Event> {
        let attempt = item.attempt.key().attempt;
        match verdict {
            Verdict::Accepted { provider_id, .. } => Some(Event::Accepted { attempt, at: now, provider_id }),
            Verdict::Failed { failure, .. } => Some(Event::Rejected { attempt, at: now, failure }),
            Verdict::Unclear { .. } => None,
            Verdict::NotProcessed { class, failure, charged, retries_max, wait, effects: _ } => {
                let most = retries_max.unwrap_or(u8::MAX).min(settings.retries_max);
                if charged && item.retries >= most {
                    return Some(Event::Rejected { attempt, at: now, failure });
                }
                let pause = match class {
                    Class::Pair => pair_delay(u32::from(attempt) - 1),
                    _ if charged => self.backoff.delay(u32::from(item.retries), rand::random()),
                    _ => SLOWED_PAUSE + SLOWED_PAUSE.mul_f64(rand::random::<f64>()),
                };
                let due_at = now.after(pause.max(wait.unwrap_or_default()));
                Some(Event::NotProcessed { attempt, at: now, failure: Some(failure), charged, due_at })
            }
        }
    }

    /// Does what an outcome means beyond its message. What concerns the line alone is done here; the rest by the supervisor.
    fn act(&self, act: Act, line: &LineShared, campaign: CampaignKey, reason: String) {
        match act {
            Act::SlowLine => return line.slow_down(),
            // At once: the record follows.
            Act::HoldLine | Act::PauseLine(_) | Act::HoldAccount | Act::PauseAccount(_) => line.hold_now(),
            Act::SlowAccount | Act::HoldCampaign | Act::PauseCampaign(_) => {}
        }
        self.tell(SupervisorMsg::Act { act, line: Some(line.key), campaign: Some(campaign), reason });
    }

    /// Tells the supervisor. It may be starting anew: what is lost then is asked for again by the next outcome.
    pub(crate) fn tell(&self, message: SupervisorMsg) {
        if let Some(supervisor) = self.supervisor.load().as_deref() {
            let _ = supervisor.cast(message);
        }
    }
}
