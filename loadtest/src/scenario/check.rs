//! From text to a scenario: overrides, keys, bounds, and what must fit together.

use serde::de::DeserializeOwned;

use super::file::{Campaign, Disturbance, Kind, Line, Scenario, StoreKind, Top};
use super::problem::Problems;
use crate::report::bound::Bound;
use crate::report::figures;
use crate::sim::plan::Plan;

/// Sections and lists of the file.
const TABLES: [&str; 7] = ["server", "witness", "statuses", "provider", "probe", "floor", "pass"];
const LISTS: [&str; 3] = ["lines", "campaigns", "disturbances"];
/// Sections of the server's configuration that the harness writes itself.
const OWN_SECTIONS: [&str; 5] = ["listen", "auth", "accounts", "data_dir", "public_base_url"];
/// Names of campaigns that the harness makes itself.
const OWN_NAMES: [&str; 2] = [super::load::PROBE, super::load::PAIR];
/// Campaigns that are sealed in a second at least, on two cores: seals queue up at the ledger's writer.
const SEALED_PER_SECOND: f64 = 40.0;
/// Most recipients over all campaigns: the simulator's ledger counts in 32 bits and lives in memory.
const RECIPIENTS_MAX: u64 = 50_000_000;

/// Reads a scenario. `overrides` are `key.path=value` (or `lists.0.key=value`), `scale` multiplies sizes and times.
///
/// # Errors
/// With everything that is wrong.
pub fn read(name: &str, text: &str, overrides: &[String], scale: f64) -> Result<Scenario, Problems> {
    let mut problems = Problems::default();
    let mut table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let error: toml::de::Error = error;
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            problems.note("", format!("line {line}: {}", error.message()));
            return Err(problems);
        }
    };
    for one in overrides {
        set(&mut table, one, &mut problems);
    }
    problems.unless(scale.is_finite() && scale > 0.0, "--scale", "must be above 0");
    let mut scenario = sections(&mut table, &mut problems);
    name.clone_into(&mut scenario.name);
    text.clone_into(&mut scenario.text);
    scaled(&mut scenario, scale);
    bounds(&scenario, &mut problems);
    if problems.0.is_empty() { Ok(scenario) } else { Err(problems) }
}

fn sections(table: &mut toml::Table, problems: &mut Problems) -> Scenario {
    let mut parts = toml::Table::new();
    for key in TABLES.iter().chain(&LISTS) {
        if let Some(value) = table.remove(*key) {
            parts.insert((*key).to_owned(), value);
        }
    }
    // Sections count among the keys that a slip may have meant.
    for (key, _) in table.iter().filter(|(_, value)| value.is_table() || value.is_array()) {
        let known: Vec<&str> = TABLES.iter().chain(&LISTS).copied().collect();
        match super::problem::nearest(key, &known) {
            Some(near) => problems.hinted(key, "no such section", format!("did you mean {near}?")),
            None => problems.hinted(key, "no such section", format!("sections: {}", known.join(", "))),
        }
    }
    table.retain(|_, value| !value.is_table() && !value.is_array());
    let top: Top = problems.read("", table);
    Scenario {
        top,
        server: section(&parts, "server", problems).unwrap_or_default(),
        witness: section(&parts, "witness", problems).unwrap_or_default(),
        lines: list(&parts, "lines", problems),
        campaigns: list(&parts, "campaigns", problems),
        statuses: statuses(&parts, problems),
        provider: section(&parts, "provider", problems).unwrap_or_default(),
        probe: section(&parts, "probe", problems),
        floor: section(&parts, "floor", problems),
        disturbances: list(&parts, "disturbances", problems),
        pass: section::<toml::Table>(&parts, "pass", problems)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(key, value)| match value {
                toml::Value::String(bound) => Some((key, bound)),
                other => {
                    problems.hinted(
                        format!("pass.{key}"),
                        format!("{other} is no bound"),
                        "write \"<= 5\" or \">= 0.99\"",
                    );
                    None
                }
            })
            .collect(),
        ..Scenario::default()
    }
}

fn section<T: DeserializeOwned + Default>(parts: &toml::Table, key: &str, problems: &mut Problems) -> Option<T> {
    match parts.get(key)? {
        toml::Value::Table(table) => Some(problems.read(key, table)),
        _ => {
            problems.hinted(key, "is a section", format!("write [{key}] on a line of its own"));
            None
        }
    }
}

fn list<T: DeserializeOwned + Default>(parts: &toml::Table, key: &str, problems: &mut Problems) -> Vec<T> {
    let Some(value) = parts.get(key) else { return Vec::new() };
    let entries = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if !value.is_array() || entries.iter().any(|entry| !entry.is_table()) {
        problems.hinted(key, "is a list of sections", format!("write [[{key}]] before each"));
        return Vec::new();
    }
    let tables = entries.iter().filter_map(toml::Value::as_table).enumerate();
    tables.map(|(n, table)| problems.read(&format!("{key}[{n}]"), table)).collect()
}

/// A plan that begins from a named one.
fn statuses(parts: &toml::Table, problems: &mut Problems) -> Plan {
    let Some(toml::Value::Table(table)) = parts.get("statuses") else {
        if parts.contains_key("statuses") {
            problems.note("statuses", "is a section");
        }
        return Plan::default();
    };
    let mut table = table.clone();
    let from = table.remove("from").unwrap_or_else(|| "usual".into());
    let plan = match from.as_str() {
        Some("usual") => Plan::default(),
        Some("straight") => Plan::straight(1),
        Some("silent") => Plan::silent(),
        Some("rough") => Plan::rough(),
        _ => {
            problems.hinted("statuses.from", format!("{from} is no plan"), "usual, straight, silent or rough");
            Plan::default()
        }
    };
    // Wrong keys are named first; then the good ones are laid over the plan.
    let before = problems.0.len();
    let _: Plan = problems.read("statuses", &table);
    if problems.0.len() > before {
        return plan;
    }
    let laid = toml::Table::try_from(&plan).map(|mut whole| {
        whole.extend(table);
        whole
    });
    match laid.map(toml::Table::try_into) {
        Ok(Ok(plan)) => plan,
        Ok(Err(error)) => {
            let error: toml::de::Error = error;
            problems.note("statuses", error.message());
            plan
        }
        Err(error) => {
            problems.note("statuses", error.to_string());
            plan
        }
    }
}

/// Puts one override in.
fn set(table: &mut toml::Table, order: &str, problems: &mut Problems) {
    let Some((path, text)) = order.split_once('=') else {
        problems.hinted("--set", format!("{order}: no value"), "KEY=VALUE, e.g. campaigns.0.count=10");
        return;
    };
    let value: toml::Value = match format!("v = {text}").parse::<toml::Table>() {
        Ok(mut parsed) => parsed.remove("v").unwrap_or_else(|| text.into()),
        Err(_) => text.into(),
    };
    let keys: Vec<&str> = path.split('.').collect();
    // A figure's name in [pass] has dots of its own.
    let keys = match keys.split_first() {
        Some((&"pass", rest)) => vec!["pass".to_owned(), rest.join(".")],
        _ => keys.into_iter().map(str::to_owned).collect(),
    };
    let Some((last, way)) = keys.split_last() else { return };
    let mut here = table;
    let mut rest = way.iter().peekable();
    while let Some(key) = rest.next() {
        let place = rest.peek().and_then(|next| next.parse::<usize>().ok());
        let entry = here.entry(key.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let found = match (entry, place) {
            (toml::Value::Array(entries), Some(place)) => {
                rest.next();
                entries.get_mut(place).and_then(toml::Value::as_table_mut)
            }
            (toml::Value::Table(inner), _) => Some(inner),
            _ => None,
        };
        let Some(found) = found else {
            problems.note("--set", format!("{path}: {key} has no such place"));
            return;
        };
        here = found;
    }
    here.insert(last.clone(), value);
}

/// Sizes and times; rates, ceilings and shares stay.
fn scaled(scenario: &mut Scenario, scale: f64) {
    if scale == 1.0 || !scale.is_finite() || scale <= 0.0 {
        return;
    }
    let whole = |number: u32| ((f64::from(number) * scale).round() as u32).max(1);
    for campaign in &mut scenario.campaigns {
        use super::file::Span;
        campaign.recipients = campaign.recipients.map(|span| Span::Between(span.ends().map(whole)));
        campaign.lasts_s = campaign.lasts_s.map(whole);
        // Sealing takes its time, however long the rest is.
        if !campaign.scheduled {
            campaign.start_s *= scale;
        }
    }
    for disturbance in &mut scenario.disturbances {
        disturbance.at_s *= scale;
        disturbance.times = disturbance.times.map(whole);
        if disturbance.kind == Kind::Flood {
            disturbance.for_ms = disturbance.for_ms.map(whole);
        }
    }
    if let Some(floor) = &mut scenario.floor {
        floor.messages = whole(floor.messages).max(1_000);
    }
    scenario.top.end_s = whole(scenario.top.end_s).max(60);
}

fn bounds(scenario: &Scenario, problems: &mut Problems) {
    problems.unless(!scenario.top.about.is_empty(), "about", "is missing: a sentence for `loadtest list`");
    problems.unless((1..=86_400).contains(&scenario.top.end_s), "end_s", "must be 1 to 86400");
    problems.unless((1..=3_600).contains(&scenario.top.window_s), "window_s", "must be 1 to 3600");
    server(scenario, problems);
    let witness = &scenario.witness;
    problems.unless(
        (1..=65_536).contains(&witness.webhook_connections),
        "witness.webhook_connections",
        "must be 1 to 65536",
    );
    problems.unless((1..=64).contains(&witness.api_threads), "witness.api_threads", "must be 1 to 64");
    problems.unless((50..=60_000).contains(&witness.sample_ms), "witness.sample_ms", "must be 50 to 60000");
    for (n, line) in scenario.lines.iter().enumerate() {
        let Line { count, ceiling, .. } = line;
        problems.unless((1..=1_000).contains(count), &format!("lines[{n}].count"), "must be 1 to 1000");
        problems.unless((1..=1_000_000).contains(ceiling), &format!("lines[{n}].ceiling"), "must be 1 to 1000000");
    }
    let mut total = 0;
    for (n, campaign) in scenario.campaigns.iter().enumerate() {
        check_campaign(scenario, n, campaign, problems);
        total += super::load::recipients_of(scenario, campaign).ends()[1] as u64 * u64::from(campaign.count);
    }
    problems.unless(total <= RECIPIENTS_MAX, "campaigns", "more than 50,000,000 recipients over all");
    problems.unless(
        !scenario.campaigns.is_empty() || scenario.floor.is_some(),
        "campaigns",
        "is missing: a scenario sends something, or has a [floor]",
    );
    if let Some(probe) = &scenario.probe {
        problems.unless((1..=80).contains(&probe.rate), "probe.rate", "must be 1 to 80");
    }
    if let Some(floor) = &scenario.floor {
        problems.unless((1..=100).contains(&floor.pairs), "floor.pairs", "must be 1 to 100");
        problems.unless((1_000..=5_000_000).contains(&floor.messages), "floor.messages", "must be 1000 to 5000000");
        problems.unless((1..=4_096).contains(&floor.connections), "floor.connections", "must be 1 to 4096");
        problems.unless((1..=16_384).contains(&floor.workers), "floor.workers", "must be 1 to 16384");
        let meta = scenario.lines.iter().any(|line| line.channel == super::file::Channel::Meta);
        problems.unless(meta, "floor", "needs a line of channel meta");
    }
    if let Err(words) = scenario.statuses.validate() {
        problems.note("statuses", words);
    }
    for (n, disturbance) in scenario.disturbances.iter().enumerate() {
        check_disturbance(scenario, n, disturbance, problems);
    }
    let known = figures::names();
    for (name, bound) in &scenario.pass {
        let key = format!("pass.\"{name}\"");
        if !known.contains(&name.as_str()) {
            match super::problem::nearest(name, &known) {
                Some(near) => problems.hinted(&key, "no such figure", format!("did you mean {near}?")),
                None => problems.hinted(&key, "no such figure", "`loadtest list --figures` shows all"),
            }
        }
        if let Err(words) = bound.parse::<Bound>() {
            problems.hinted(&key, words, "write \"<= 5\" or \">= 0.99\"");
        }
    }
}

fn server(scenario: &Scenario, problems: &mut Problems) {
    let server = &scenario.server;
    if server.nodes != 1 {
        let words = format!("{} nodes: a scenario has one", server.nodes);
        problems.hinted("server.nodes", words, "`loadtest nodes` and `loadtest nodes-figures` run several");
    }
    let on_cql = server.store == StoreKind::Scylla;
    for (n, disturbance) in scenario.disturbances.iter().enumerate() {
        let key = format!("disturbances[{n}].kind");
        if on_cql && disturbance.kind == Kind::StoreFull {
            problems.hinted(
                key,
                "no file of the server is its store",
                "take store_stop, or server.store = \"embedded\"",
            );
        } else if !on_cql && disturbance.kind == Kind::StoreStop {
            problems.hinted(
                key,
                "the embedded store has no server",
                "take stop or store_full, or server.store = \"scylla\"",
            );
        }
    }
    for (key, value) in &server.config {
        let path = format!("server.config.{key}");
        if OWN_SECTIONS.contains(&key.as_str()) {
            problems.note(path, "is written by the harness itself");
        } else if !value.is_table() {
            problems.hinted(path, "is no section of the server's configuration", "write [server.config.SECTION]");
        }
    }
}

fn check_campaign(scenario: &Scenario, n: usize, campaign: &Campaign, problems: &mut Problems) {
    let key = |name: &str| format!("campaigns[{n}].{name}");
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let named = !campaign.name.is_empty() && campaign.name.len() <= 32 && campaign.name.chars().all(word);
    problems.unless(named, &key("name"), "must be 1 to 32 of a-z, 0-9 and dash");
    problems.unless(
        !OWN_NAMES.contains(&campaign.name.as_str()),
        &key("name"),
        "is a name that the harness uses itself",
    );
    let twice = scenario.campaigns[..n].iter().any(|other| other.name == campaign.name);
    problems.unless(!twice, &key("name"), "is taken by another entry");
    problems.unless((1..=10_000).contains(&campaign.count), &key("count"), "must be 1 to 10000");
    problems.unless((1..=16_384).contains(&campaign.workers), &key("workers"), "must be 1 to 16384");
    problems.unless((1..=86_400).contains(&campaign.echo_wait_s), &key("echo_wait_s"), "must be 1 to 86400");
    problems.unless((0.0..=86_400.0).contains(&campaign.start_s), &key("start_s"), "must be 0 to 86400");
    let sealed_s = f64::from(campaign.count) / SEALED_PER_SECOND;
    if campaign.scheduled && (0.0..sealed_s).contains(&campaign.start_s) {
        let message = format!("must be at least {sealed_s} for {} scheduled campaigns", campaign.count);
        problems.hinted(key("start_s"), message, "they are sealed before");
    }
    if campaign.scheduled && campaign.refill {
        problems.note(key("refill"), "starts what follows at once: it cannot be scheduled");
    }
    let ends = |span: super::file::Span| span.ends()[0] >= 1 && span.ends()[0] <= span.ends()[1];
    problems.unless(campaign.rate.is_none_or(ends), &key("rate"), "must be at least 1, lowest first");
    problems.unless(campaign.recipients.is_none_or(ends), &key("recipients"), "must be at least 1, lowest first");
    if campaign.recipients.is_some() == campaign.lasts_s.is_some() {
        problems.note(key("recipients"), "exactly one of recipients and lasts_s says how many");
    }
    problems.unless((0.0..=1.0).contains(&campaign.repeated), &key("repeated"), "must be 0 to 1");
    if campaign.long && campaign.channel != super::file::Channel::Sms {
        problems.note(key("long"), "says nothing for channel meta");
    }
    if !scenario.lines.iter().any(|line| line.channel == campaign.channel) {
        problems.hinted(key("channel"), "no line of this channel", "add one to [[lines]]");
    }
}

fn check_disturbance(scenario: &Scenario, n: usize, it: &Disturbance, problems: &mut Problems) {
    let key = |name: &str| format!("disturbances[{n}].{name}");
    let kind = format!("{:?}", it.kind);
    let given = [
        ("for_ms", it.for_ms.is_some()),
        ("share", it.share.is_some()),
        ("how", it.how.is_some()),
        ("campaign", it.campaign.is_some()),
        ("to", it.to.is_some()),
        ("ms", it.ms.is_some()),
        ("per_second", it.per_second.is_some()),
        ("connections", it.connections.is_some()),
    ];
    // What a kind needs, then what it may have besides.
    let (needs, may): (&[&str], &[&str]) = match it.kind {
        Kind::Kill | Kind::Restart => (&[], &["for_ms"]),
        Kind::Stop | Kind::StoreFull | Kind::StoreStop => (&["for_ms"], &[]),
        Kind::Outage => (&["for_ms"], &["share", "how"]),
        Kind::RateLimit => (&["for_ms"], &["share"]),
        Kind::Slow => (&["for_ms", "ms"], &["share"]),
        Kind::Ceiling => (&["to"], &["for_ms"]),
        Kind::Rate => (&["to"], &["campaign", "for_ms"]),
        Kind::Pause => (&["for_ms"], &["campaign"]),
        Kind::Flood => (&["for_ms", "per_second", "connections"], &[]),
    };
    for (name, is) in given {
        if is && !needs.contains(&name) && !may.contains(&name) {
            problems.note(key(name), format!("says nothing for {kind}"));
        }
        if !is && needs.contains(&name) {
            problems.note(key(name), format!("is missing for {kind}"));
        }
    }
    problems.unless((0.0..=86_400.0).contains(&it.at_s), &key("at_s"), "must be 0 to 86400");
    problems.unless(it.share.is_none_or(|share| (0.0..=1.0).contains(&share)), &key("share"), "must be 0 to 1");
    if it.times.is_some_and(|times| times != 1) && it.every_ms.is_none() {
        problems.note(key("every_ms"), "is missing: when does it come again?");
    }
    let zero = |number: Option<u32>| number == Some(0);
    problems.unless(!zero(it.per_second), &key("per_second"), "must be at least 1");
    problems.unless(!zero(it.connections), &key("connections"), "must be at least 1");
    problems.unless(it.kind != Kind::Ceiling || !zero(it.to), &key("to"), "a ceiling is at least 1");
    if let Some(name) = &it.campaign {
        let known: Vec<&str> = scenario.campaigns.iter().map(|campaign| campaign.name.as_str()).collect();
        if !known.contains(&name.as_str()) {
            problems.hinted(key("campaign"), format!("no campaigns of the name {name}"), known.join(", "));
        }
    }
    let meta = scenario.lines.iter().any(|line| line.channel == super::file::Channel::Meta);
    problems.unless(it.kind != Kind::Flood || meta, &key("kind"), "a flood needs a line of channel meta");
}
