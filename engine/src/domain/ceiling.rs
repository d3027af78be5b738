//! A line's ceiling: spacing decides *when* to aim, the exact window decides *whether* a message may leave.
//!
//! Spacing alone (GCRA) overshoots by rate × allowance, so it only aims. The window remembers what left within the last
//! second plus a guard and is asked directly before the write: whatever the aim, the batches or the scheduler did, no more
//! than the ceiling leaves in any [t, t + 1 s + guard). The guard absorbs the jitter of the way to the provider, so that the
//! provider, too, sees no more than the ceiling in any [t, t + 1 s).

use std::collections::VecDeque;
use std::time::Duration;

use super::time::Mono;

/// Spacing by virtual arrival times, in nanoseconds.
#[derive(Debug, Clone)]
pub struct Aim {
    /// Nanoseconds between two permits.
    interval: u64,
    /// How far the aim may run ahead; it is also how late a wake-up may come without losing rate.
    allowance: Duration,
    /// When the next permit would be due at an even pace.
    next: Mono,
}

impl Aim {
    /// How much slower the aim is than what the window lets through at most, as a share. A message that leaves late frees its place late,
    /// so another is late a window later; were both equally fast, no lateness would ever end, and each timer's grain would come on top.
    /// So 2 ms of it are made up for in each second. (Where messages cost more than one unit, and the ceiling is no multiple of that, the
    /// window lets through fewer than the aim counts on, and paces by itself.)
    pub const HEADROOM: f64 = 0.002;

    /// The rate of an aim below `window`, permits per second.
    pub fn rate_below(window: &Window) -> f64 {
        f64::from(window.ceiling) / window.span.as_secs_f64() * (1.0 - Self::HEADROOM)
    }

    /// An aim at `rate` permits per second that may run ahead by `allowance`. A rate of zero or less never fires.
    pub fn new(rate: f64, allowance: Duration, now: Mono) -> Self {
        let mut aim = Self { interval: u64::MAX, allowance, next: now };
        aim.set_rate(rate);
        aim
    }

    /// Changes the rate; what is due stays due.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, which is what is meant
    pub fn set_rate(&mut self, rate: f64) {
        self.interval = if rate > 0.0 { (1e9 / rate).max(1.0) as u64 } else { u64::MAX };
    }

    /// When the next permit may be taken.
    pub fn due(&self) -> Mono {
        if self.interval == u64::MAX { Mono(u64::MAX) } else { self.next - self.allowance }
    }

    /// Takes one permit of `cost` units if it is due.
    pub fn take(&mut self, now: Mono, cost: u32) -> bool {
        if now < self.due() {
            return false;
        }
        let step = self.interval.saturating_mul(u64::from(cost.max(1)));
        self.next = Mono(self.next.max(now).0.saturating_add(step));
        true
    }
}

/// The exact window of the last permits.
#[derive(Debug, Clone)]
pub struct Window {
    ceiling: u32,
    span: Duration,
    /// When each left, until when it counts, and what it cost; in order.
    left: VecDeque<Leaving>,
    /// Sum of the costs in `left`.
    used: u64,
    not_before: Mono,
    /// The number of the next permit.
    next: u64,
}

/// A permit that was used: by it the window learns when the message really left ([`Window::left_at`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage(u64);

#[derive(Debug, Clone, Copy)]
struct Leaving {
    number: u64,
    counts_until: Mono,
    cost: u32,
}

impl Window {
    /// A window of one second plus `guard`. Nothing leaves before `not_before`: after a start or an unclean change of owner one
    /// full window of silence comes first, since nobody knows what left before ([`Window::silence_from`]).
    pub fn new(ceiling: u32, guard: Duration, not_before: Mono) -> Self {
        Self { ceiling, span: Duration::from_secs(1) + guard, left: VecDeque::new(), used: 0, not_before, next: 0 }
    }

    /// The moment until which a window that begins at `now` must stay silent.
    pub fn silence_from(now: Mono, guard: Duration) -> Mono {
        now + Duration::from_secs(1) + guard
    }

    /// The ceiling, units per second.
    pub fn ceiling(&self) -> u32 {
        self.ceiling
    }

    /// Changes the ceiling. A lower one binds every window that begins from now on: what left already counts against it.
    pub fn set_ceiling(&mut self, ceiling: u32) {
        self.ceiling = ceiling;
    }

    /// Before this nothing leaves.
    pub fn opens_at(&self) -> Mono {
        self.not_before
    }

    /// Units that left within the window that ends at `now`.
    pub fn used(&mut self, now: Mono) -> u64 {
        self.forget(now);
        self.used
    }

    /// Lets one message of `cost` units leave at `now`, or says when to ask again.
    ///
    /// A message that costs more than the whole ceiling leaves alone, and then counts for as many windows as it needs.
    pub fn pass(&mut self, now: Mono, cost: u32) -> Result<Passage, Mono> {
        if self.ceiling == 0 {
            return Err(Mono(u64::MAX));
        }
        if now < self.not_before {
            return Err(self.not_before);
        }
        self.forget(now);
        let cost = cost.max(1);
        let limit = u64::from(self.ceiling.max(cost));
        if cost > self.ceiling && self.used > 0 {
            return Err(self.free_at(self.used));
        }
        if self.used + u64::from(cost) > limit {
            return Err(self.free_at(self.used + u64::from(cost) - limit));
        }
        let windows = cost.div_ceil(self.ceiling);
        let number = self.next;
        self.next += 1;
        self.left.push_back(Leaving { number, counts_until: now + self.span * windows, cost });
        self.used += u64::from(cost);
        Ok(Passage(number))
    }

    /// The message left only at `now`: the thread was held up between the gate and the write. It counts from then on, or a
    /// later window would hold it beside a full ceiling of others. (Those behind it may then count a little longer than needed.)
    pub fn left_at(&mut self, passage: Passage, now: Mono) {
        if let Ok(place) = self.left.binary_search_by_key(&passage.0, |leaving| leaving.number) {
            let windows = self.left[place].cost.div_ceil(self.ceiling.max(1));
            self.left[place].counts_until = now + self.span * windows;
        }
    }

    /// The ages of what left, for a clean hand-over to the next owner: (how long it still counts, cost). `None` while it is still silent: what
    /// left before that this owner does not know itself.
    pub fn hand_over(&mut self, now: Mono) -> Option<Vec<(Duration, u32)>> {
        self.forget(now);
        (now >= self.not_before).then(|| self.left.iter().map(|l| (l.counts_until.since(now), l.cost)).collect())
    }

    /// Takes over what a former owner handed over; no silence is needed then.
    pub fn take_over(&mut self, now: Mono, handed: &[(Duration, u32)]) {
        self.left = (0..)
            .zip(handed)
            .map(|(number, (rest, cost))| Leaving { number, counts_until: now + *rest, cost: *cost })
            .collect();
        self.next = handed.len() as u64;
        self.used = self.left.iter().map(|l| u64::from(l.cost)).sum();
        self.not_before = now;
    }

    fn forget(&mut self, now: Mono) {
        while let Some(oldest) = self.left.front()
            && oldest.counts_until <= now
        {
            self.used -= u64::from(oldest.cost);
            self.left.pop_front();
        }
    }

    /// When at least `units` will have stopped counting.
    fn free_at(&self, units: u64) -> Mono {
        let (mut freed, mut until) = (0, self.not_before);
        for leaving in &self.left {
            freed += u64::from(leaving.cost);
            // Not always in order: one that left late holds up those behind it.
            until = until.max(leaving.counts_until);
            if freed >= units {
                return until;
            }
        }
        until
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUARD: Duration = Duration::from_millis(5);
    const ALLOWANCE: Duration = Duration::from_millis(10);

    fn ms(ms: u64) -> Mono {
        Mono(10_000_000_000 + ms * 1_000_000)
    }

    /// The highest sum of costs in any window of one second.
    fn highest(sent: &[(Mono, u32)]) -> u64 {
        let mut highest = 0;
        for (i, (from, _)) in sent.iter().enumerate() {
            let within = sent[i..].iter().take_while(|(at, _)| at.since(*from) < Duration::from_secs(1));
            highest = highest.max(within.map(|(_, cost)| u64::from(*cost)).sum());
        }
        highest
    }

    proptest! {
        /// Whatever the moments at which it is asked, and whatever the changes of the ceiling, no window holds more.
        #[test]
        fn no_window_exceeds_the_ceiling(
            ceiling in 1_u32..50,
            steps in prop::collection::vec((0_u64..200_000_000, 1_u32..4), 1..400),
        ) {
            let mut window = Window::new(ceiling, GUARD, ms(0));
            let (mut now, mut sent) = (ms(0), Vec::new());
            for (step, cost) in steps {
                let cost = cost.min(ceiling);
                now = Mono(now.0 + step);
                match window.pass(now, cost) {
                    Ok(_) => sent.push((now, cost)),
                    Err(again) => {
                        prop_assert!(again > now);
                        prop_assert!(window.clone().pass(again, cost).is_ok());
                    }
                }
            }
            prop_assert!(highest(&sent) <= u64::from(ceiling));
        }

        /// Also when threads are held up between the gate and the write, by up to 300 ms.
        #[test]
        fn no_window_exceeds_the_ceiling_by_the_times_of_the_writes(
            ceiling in 1_u32..50,
            steps in prop::collection::vec((0_u64..60_000_000, 0_u64..300_000_000, any::<bool>()), 1..400),
        ) {
            let mut window = Window::new(ceiling, GUARD, ms(0));
            let (mut now, mut sent) = (ms(0), Vec::new());
            for (step, held_up, is_held_up) in steps {
                now = Mono(now.0 + step);
                if let Ok(passage) = window.pass(now, 1) {
                    if is_held_up {
                        now = Mono(now.0 + held_up);
                        window.left_at(passage, now);
                    }
                    sent.push((now, 1));
                }
            }
            prop_assert!(highest(&sent) <= u64::from(ceiling));
        }

        /// With standing demand and wake-ups late by up to 3 ms, at least 0.99 of the ceiling is used over any 10 s.
        #[test]
        fn standing_demand_uses_the_ceiling(ceiling in 20_u32..2_000, lateness in prop::collection::vec(0_u64..3_000_000, 64)) {
            let mut window = Window::new(ceiling, GUARD, ms(0));
            let mut aim = Aim::new(Aim::rate_below(&window), ALLOWANCE, ms(0));
            let (mut now, mut sent, mut turn) = (ms(0), 0_u64, 0_usize);
            while now < ms(11_000) {
                while aim.take(now, 1) {
                    // The message waits at the gate until it may pass.
                    let mut at = now;
                    while let Err(again) = window.pass(at, 1) {
                        at = again;
                    }
                    now = at;
                    sent += u64::from(at >= ms(1_000));
                }
                turn += 1;
                now = Mono(aim.due().max(now).0 + lateness[turn % 64]);
            }
            prop_assert!(sent as f64 >= 0.99 * 10.0 * f64::from(ceiling), "{sent} of {}", 10 * ceiling);
        }
    }

    /// A sender that is held up once, and whose timers come a little late, is even again ten seconds later.
    #[test]
    fn lateness_is_made_up_for_and_not_repeated_every_second() {
        const CEILING: u32 = 1_000;
        // Wake-ups come at whole milliseconds.
        let woken = |at: Mono| Mono(at.0.next_multiple_of(1_000_000) + 100_000);
        let mut window = Window::new(CEILING, GUARD, ms(0));
        let mut aim = Aim::new(Aim::rate_below(&window), ALLOWANCE, ms(0));
        let (mut now, mut left, mut trouble) = (ms(0), Vec::new(), Some(ms(1_500)));
        while now < ms(30_000) {
            while aim.take(now, 1) {
                // It waits at the gate by itself: the sender goes on meanwhile.
                let mut at = left.last().copied().unwrap_or(now).max(now);
                while let Err(again) = window.pass(at, 1) {
                    at = woken(again);
                }
                left.push(at);
            }
            now = woken(aim.due().max(now + Duration::from_millis(2)));
            if trouble.take_if(|at| *at <= now).is_some() {
                now = now + Duration::from_millis(15);
            }
        }
        let longest_pause = |from, until| {
            let times: Vec<_> = left.iter().filter(|at| (ms(from)..ms(until)).contains(*at)).collect();
            times.windows(2).map(|pair| pair[1].since(*pair[0])).max().unwrap()
        };
        assert!(longest_pause(1_000, 2_000) >= Duration::from_millis(15), "it was held up");
        assert!(longest_pause(12_000, 30_000) <= Duration::from_millis(3), "{:?}", longest_pause(12_000, 30_000));
    }

    #[test]
    fn a_fresh_window_is_silent_for_a_full_second_and_the_guard() {
        let mut window = Window::new(10, GUARD, Window::silence_from(ms(0), GUARD));
        assert_eq!(window.pass(ms(1_004), 1), Err(ms(1_005)));
        assert!(window.pass(ms(1_005), 1).is_ok());
    }

    #[test]
    fn a_lower_ceiling_counts_what_left_already() {
        let mut window = Window::new(10, GUARD, ms(0));
        for i in 0..10 {
            assert!(window.pass(ms(i), 1).is_ok());
        }
        window.set_ceiling(4);
        assert_eq!(window.pass(ms(1_010), 1), Err(ms(1_011)), "nine left, six must go first");
    }

    #[test]
    fn a_message_dearer_than_the_ceiling_leaves_alone_and_counts_longer() {
        let mut window = Window::new(2, GUARD, ms(0));
        assert!(window.pass(ms(0), 1).is_ok());
        assert_eq!(window.pass(ms(1), 5), Err(ms(1_005)));
        assert!(window.pass(ms(1_005), 5).is_ok());
        assert_eq!(window.pass(ms(1_006), 1), Err(ms(1_005 + 3 * 1_005)));
    }

    #[test]
    fn a_clean_hand_over_needs_no_silence_and_forgets_nothing() {
        let mut old = Window::new(3, GUARD, ms(0));
        for i in 0..3 {
            assert!(old.pass(ms(i), 1).is_ok());
        }
        let mut new = Window::new(3, GUARD, Mono(u64::MAX));
        new.take_over(ms(500), &old.hand_over(ms(500)).unwrap());
        assert_eq!(new.pass(ms(500), 1), Err(ms(1_005)));
        assert!(new.pass(ms(1_005), 1).is_ok());
    }

    #[test]
    fn who_is_silent_itself_hands_nothing_over() {
        let mut window = Window::new(3, GUARD, Window::silence_from(ms(0), GUARD));
        assert_eq!(window.hand_over(ms(1_004)), None, "what the owner before it sent may still count");
        assert_eq!(window.hand_over(ms(1_005)), Some(Vec::new()));
    }
}
