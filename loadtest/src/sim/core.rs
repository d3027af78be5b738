//! What all parts of a running simulator share: the books, the windows, the waiting statuses.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::config::{MetaAccount, SimConfig, TwilioAccount};
use super::faults::{Fault, Faults, Kind, Rule};
use super::ledger::{Accepted, Answer, Ledger, Refused, Why};
use super::pairs::{PAIR_BLOCKED, PairLimit, Pairs};
use super::plan::{Dice, Journey, Plan};
use super::rates::{LineRate, Window, line_rate};
use super::schedule::{Due, Schedule};
use super::sign::{MetaSigner, TwilioSigner};
use super::stamp::Clock;
use super::stats::Stats;

/// Everything shared.
#[derive(Debug)]
pub struct Core {
    /// The configuration it was started with.
    pub config: SimConfig,
    /// The clock of all stamps.
    pub clock: Arc<Clock>,
    /// What changes.
    pub state: Mutex<State>,
    /// Counters and histograms of the webhook side.
    pub stats: Stats,
    /// All lines.
    pub lines: Vec<Line>,
    /// All accounts, Meta's first.
    pub accounts: Vec<Account>,
    by_id: HashMap<String, u16>,
    nonce: u64,
    hurried: AtomicBool,
    resets: AtomicBool,
}

/// A line as the handlers need it.
#[derive(Debug)]
pub struct Line {
    /// Its identity at the provider.
    pub id: String,
    /// Index of its account.
    pub account: usize,
    /// Its own number, digits only (Meta).
    pub number: String,
    /// Its ceiling.
    pub ceiling: u32,
    /// The times of its first posts are kept.
    pub timed: bool,
}

/// An account as the handlers need it.
#[derive(Debug)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: AccountKind,
}

/// Which provider an account belongs to.
#[derive(Debug)]
pub enum AccountKind {
    /// Meta, with the expected `Authorization` value.
    Meta(MetaAccount, String, MetaSigner),
    /// Twilio, with the accepted `Authorization` values.
    Twilio(TwilioAccount, Vec<String>, TwilioSigner),
}

/// What changes while it runs.
#[derive(Debug)]
pub struct State {
    /// The books.
    pub ledger: Ledger,
    /// The faults in force.
    pub faults: Faults,
    /// All plans so far; the last is in force.
    pub plans: Vec<Arc<Plan>>,
    /// Waiting statuses, one schedule per account.
    pub schedules: Vec<Schedule<Due>>,
    /// Statuses that are neither acknowledged nor given up.
    pub outstanding: u64,
    /// Where each account's webhooks go: Meta a URL, Twilio `host:port`.
    pub targets: Vec<Option<String>>,
    /// Callback URLs around the correlation id.
    pub urls: Vec<(String, String)>,
    windows: Vec<Window>,
    pairs: Pairs,
    url_places: HashMap<(String, String), u16>,
}

/// A request that passed all checks of its form.
#[derive(Debug, Clone, Copy)]
pub struct Valid<'a> {
    /// The line.
    pub line: u16,
    /// The recipient's digits.
    pub recipient: u64,
    /// Digest of recipient, template and parameters.
    pub content: u64,
    /// The correlation id.
    pub correlation: &'a str,
    /// Callback URL before and after the correlation id (Twilio).
    pub url: Option<(&'a str, &'a str)>,
    /// Units.
    pub cost: u8,
    /// With the `whatsapp:` prefix.
    pub whatsapp: bool,
}

/// What was decided for a request that passed all checks of its form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Booked {
    /// Accepted under this number; the fault says what spoils the answer.
    Accepted(u32, Option<Fault>),
    /// Not accepted, a fault.
    Refused(Fault),
    /// Not accepted, above the ceiling.
    TooFast,
    /// Not accepted, too much for this recipient.
    PairBlocked,
}

impl Core {
    /// Builds the shared state.
    #[must_use]
    pub fn new(config: SimConfig) -> Self {
        let clock = Arc::new(Clock::new());
        let mut lines = Vec::new();
        let mut accounts = Vec::new();
        let mut targets = Vec::new();
        for meta in &config.meta {
            for line in &meta.lines {
                lines.push(Line {
                    id: line.id.clone(),
                    account: accounts.len(),
                    number: line.number.trim_start_matches('+').to_owned(),
                    ceiling: line.ceiling,
                    timed: config.timed_lines.contains(&line.id),
                });
            }
            let bearer = format!("Bearer {}", meta.token);
            let signer = MetaSigner::new(&meta.app_secret);
            targets.push(meta.webhook.clone());
            accounts
                .push(Account { name: meta.account.clone(), kind: AccountKind::Meta(meta.clone(), bearer, signer) });
        }
        for twilio in &config.twilio {
            for line in &twilio.lines {
                lines.push(Line {
                    id: line.id.clone(),
                    account: accounts.len(),
                    number: String::new(),
                    ceiling: line.ceiling,
                    timed: config.timed_lines.contains(&line.id),
                });
            }
            targets.push(twilio.connect.clone());
            accounts.push(Account {
                name: twilio.account.clone(),
                kind: AccountKind::Twilio(
                    twilio.clone(),
                    super::twilio::basic_values(twilio),
                    TwilioSigner::new(&twilio.auth_token),
                ),
            });
        }
        let places = |(place, line): (usize, &Line)| (line.id.clone(), place as u16);
        let by_id = lines.iter().enumerate().map(places).collect();
        let now = clock.now_ns();
        let resets = any_reset(&config.faults);
        let state = State {
            ledger: Ledger::new(lines.len()),
            faults: Faults::new(config.seed, config.faults.clone(), now),
            plans: vec![Arc::new(config.plan.clone())],
            schedules: accounts.iter().map(|_| Schedule::default()).collect(),
            outstanding: 0,
            targets,
            urls: vec![(String::new(), String::new())],
            windows: lines.iter().map(|line| Window::new(line.ceiling)).collect(),
            pairs: Pairs::default(),
            url_places: HashMap::new(),
        };
        Self {
            nonce: Dice::new(config.seed, &[now]).next(),
            config,
            clock,
            state: Mutex::new(state),
            stats: Stats::default(),
            lines,
            accounts,
            by_id,
            hurried: AtomicBool::new(false),
            resets: AtomicBool::new(resets),
        }
    }

    /// The line of this identity if it belongs to `account`.
    #[must_use]
    pub fn line(&self, account: usize, id: &str) -> Option<u16> {
        let place = *self.by_id.get(id)?;
        (self.lines[usize::from(place)].account == account).then_some(place)
    }

    /// Books a valid request: faults, then the pair and the ceiling, then the ledger and the plan of its statuses.
    /// Returns what was decided and by how many milliseconds the answer is delayed.
    pub fn book(&self, valid: &Valid<'_>, at_ns: u64) -> (Booked, u32) {
        let line = &self.lines[usize::from(valid.line)];
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let (mut delay, mut fault) = (0, None);
        if !state.faults.is_empty() {
            let decision = state.faults.decide(at_ns, &line.id, valid.recipient);
            (delay, fault) = (decision.delay_ms, decision.fault);
        }
        let (too_fast_http, too_fast) = too_fast(&self.accounts[line.account].kind);
        let refused = |code, http, why| Refused {
            at_ns,
            line: Some(valid.line),
            correlation: valid.correlation,
            code,
            http,
            cost: valid.cost,
            why,
        };
        let answer = match fault {
            None => Answer::Given,
            Some(fault) => match fault.kind {
                Kind::AcceptThenError => Answer::Error,
                Kind::AcceptThenReset => Answer::Reset,
                Kind::AcceptThenHang => Answer::Hung,
                kind => {
                    let (code, http, why) = match kind {
                        Kind::RateLimit => (too_fast, too_fast_http, Why::Fault),
                        Kind::Hang => (0, 0, Why::Hung),
                        _ => (fault.code, fault.http, Why::Fault),
                    };
                    state.ledger.refuse(&refused(code, http, why));
                    return (Booked::Refused(fault), delay);
                }
            },
        };
        let pair = match &self.accounts[line.account].kind {
            AccountKind::Meta(account, ..) => account.pair,
            AccountKind::Twilio(..) => PairLimit::none(),
        };
        if !state.pairs.is_free(pair, valid.line, valid.recipient, at_ns) {
            state.ledger.refuse(&refused(PAIR_BLOCKED, too_fast_http, Why::Pair));
            return (Booked::PairBlocked, delay);
        }
        if !state.windows[usize::from(valid.line)].admit(at_ns, valid.cost) {
            state.ledger.refuse(&refused(too_fast, too_fast_http, Why::TooFast));
            return (Booked::TooFast, delay);
        }
        state.pairs.book(pair, valid.line, valid.recipient, at_ns);
        let url = valid.url.map_or(0, |url| state.url(url));
        let plan = state.plans.len() - 1;
        let number = state.ledger.accept(&Accepted {
            at_ns,
            recipient: valid.recipient,
            content: valid.content,
            correlation: valid.correlation,
            line: valid.line,
            url,
            plan: plan as u8,
            cost: valid.cost,
            whatsapp: valid.whatsapp,
            answer,
        });
        let callback = !matches!(self.accounts[line.account].kind, AccountKind::Twilio(..)) || valid.url.is_some();
        if callback {
            let plan = Arc::clone(&state.plans[plan]);
            let journey = Journey::of(&plan, self.config.seed, valid.recipient);
            let now_ms = self.clock.now_ns() / 1_000_000;
            if journey.before_answer {
                delay += plan.before_answer_ms;
            }
            state.plan_statuses(line.account, number, &journey, &plan, now_ms);
        }
        (Booked::Accepted(number, fault), delay)
    }

    /// The provider's id of an accepted message.
    #[must_use]
    pub fn provider_id(&self, account: usize, number: u32) -> String {
        match self.accounts[account].kind {
            AccountKind::Meta(..) => super::meta::wamid(self.nonce, number),
            AccountKind::Twilio(..) => super::twilio::sid(self.nonce, number),
        }
    }

    /// Makes another plan the one in force for what is accepted from now on.
    ///
    /// # Errors
    /// When the plan is not valid, or 255 plans were given already.
    pub fn set_plan(&self, plan: Plan) -> Result<(), String> {
        plan.validate()?;
        let mut state = self.state.lock();
        if state.plans.len() > usize::from(u8::MAX) {
            return Err("the plan was changed 255 times already".to_owned());
        }
        state.plans.push(Arc::new(plan));
        Ok(())
    }

    /// Puts other fault rules in force, from now on.
    pub fn set_faults(&self, rules: Vec<Rule>) {
        self.resets.store(any_reset(&rules), Ordering::Relaxed);
        self.state.lock().faults = Faults::new(self.config.seed, rules, self.clock.now_ns());
    }

    /// Whether a connection with something to read is to be reset instead. Who resets it books that.
    #[must_use]
    pub fn reset_unread(&self) -> bool {
        self.resets.load(Ordering::Relaxed) && self.state.lock().faults.reset_unread(self.clock.now_ns())
    }

    /// Books a request that is not accepted.
    pub fn refuse(&self, refused: &Refused<'_>) {
        self.state.lock().ledger.refuse(refused);
    }

    /// Sends an account's webhooks somewhere else from now on: Meta a URL, Twilio `host:port`.
    ///
    /// # Errors
    /// When there is no such account, or a Meta URL is not `http://`.
    pub fn set_target(&self, account: &str, target: &str) -> Result<(), String> {
        let place = self.accounts.iter().position(|a| a.name == account);
        let place = place.ok_or_else(|| format!("no account {account}"))?;
        if matches!(self.accounts[place].kind, AccountKind::Meta(..)) {
            crate::wire::client::split_url(target).map_err(|e| e.to_string())?;
        }
        self.state.lock().targets[place] = Some(target.to_owned());
        Ok(())
    }

    /// Whether waiting statuses go out at once (quiesce) rather than at their time.
    #[must_use]
    pub fn hurried(&self) -> bool {
        self.hurried.load(Ordering::Relaxed)
    }

    /// Switches that on or off.
    pub fn hurry(&self, on: bool) {
        self.hurried.store(on, Ordering::Relaxed);
    }

    /// The rate figures of every line.
    #[must_use]
    pub fn rates(&self, window_ns: u64, marks: (Option<u64>, Option<u64>)) -> Vec<LineRate> {
        let stalls = self.clock.stamping().stalls;
        let figures = |(place, line): (usize, &Line)| {
            let arrivals = self.state.lock().ledger.arrivals(place as u16);
            line_rate(&line.id, line.ceiling, arrivals, window_ns, marks, &stalls)
        };
        self.lines.iter().enumerate().map(figures).collect()
    }

    /// Refusals by line and code; those before a line was known stand under `""`.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<String, BTreeMap<u32, u64>> {
        let state = self.state.lock();
        let mut all = BTreeMap::new();
        let elsewhere = state.ledger.refused_by_code(None);
        if !elsewhere.is_empty() {
            all.insert(String::new(), elsewhere.clone());
        }
        for (place, line) in self.lines.iter().enumerate() {
            let codes = state.ledger.refused_by_code(Some(place as u16));
            if !codes.is_empty() {
                all.insert(line.id.clone(), codes.clone());
            }
        }
        all
    }
}

fn any_reset(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| rule.kind == Kind::ResetUnread)
}

/// The provider's HTTP status and code for "too fast".
#[must_use]
pub fn too_fast(kind: &AccountKind) -> (u16, u32) {
    match kind {
        AccountKind::Meta(account, ..) => (account.rate_http, 130_429),
        AccountKind::Twilio(..) => (429, 20_429),
    }
}

impl State {
    fn url(&mut self, (before, after): (&str, &str)) -> u16 {
        // The common case first: one callback URL for everything.
        if let Some(place) = self.urls.iter().rposition(|u| u.0 == before && u.1 == after) {
            return place as u16;
        }
        let key = (before.to_owned(), after.to_owned());
        let fresh = self.urls.len().min(usize::from(u16::MAX)) as u16;
        let place = *self.url_places.entry(key.clone()).or_insert(fresh);
        if usize::from(place) == self.urls.len() {
            self.urls.push(key);
        }
        place
    }

    fn plan_statuses(&mut self, account: usize, number: u32, journey: &Journey, plan: &Plan, now_ms: u64) {
        let first = journey.steps().iter().map(|s| s.due_ms).min();
        for step in journey.steps() {
            let early = journey.before_answer && Some(step.due_ms) == first;
            let due = if early { now_ms } else { now_ms + u64::from(step.due_ms) };
            let item = Due { entry: number, status: step.status };
            let schedule = &mut self.schedules[account];
            schedule.put(due, item);
            let mut dice = Dice::new(u64::from(number), &[u64::from(step.at_ms)]);
            for _ in 1..step.times {
                schedule.put(due + u64::from(dice.between(plan.copy_ms)), item);
            }
            self.outstanding += u64::from(step.times);
        }
    }
}
