//! What comes along is right; what is wrong is said at once, with its key.

use super::check::read;
use super::file::Kind;
use super::load;
use super::{SHIPPED, files_of};
use crate::report::bound::Bound;

const GOOD: &str = "about = \"a\"\n[[lines]]\nceiling = 10\n[[campaigns]]\nrecipients = 5\n";

fn problems(text: &str) -> String {
    read("t", text, &[], 1.0).err().map(|problems| problems.to_string()).unwrap_or_default()
}

#[test]
fn every_shipped_scenario_is_right_and_every_file_is_shipped() {
    for (name, text) in SHIPPED {
        if let Err(problems) = read(name, text, &[], 1.0) {
            panic!("{name}:\n{problems}");
        }
        assert!(read(name, text, &[], 0.01).is_ok(), "{name}, scaled down");
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<String> = files_of(&folder)
        .expect("the folder")
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    files.sort();
    let mut known: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(files, known);
}

/// The keys that a part of a file has, by what is said of one that it has not.
fn keys<T: serde::de::DeserializeOwned + std::fmt::Debug>() -> Vec<String> {
    let said = toml::from_str::<T>("no-such-key = 1").expect_err("no part has such a key").to_string();
    let (_, known) = said.split_once("expected").expect("says which there are");
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn smoke_shows_every_key() {
    use super::file::{Campaign, Disturbance, Floor, Line, Probe, Witness};
    let (_, smoke) = SHIPPED.iter().find(|(one, _)| *one == "smoke").expect("shipped");
    let parts = [
        keys::<Campaign>(),
        keys::<Disturbance>(),
        keys::<Floor>(),
        keys::<Line>(),
        keys::<Probe>(),
        keys::<Witness>(),
    ];
    // A key that would be at odds with another stands in that one's comment.
    let is_shown =
        |key: &String| smoke.split([' ', '\n']).collect::<Vec<_>>().windows(2).any(|pair| pair == [key, "="]);
    let missing: Vec<String> = parts.concat().into_iter().filter(|key| !is_shown(key)).collect();
    assert!(missing.is_empty(), "not in smoke.toml: {missing:?}");
}

/// A server that holds recipients, statuses or counts back for minutes is wrong on a quiet day and in a burst, however fast it answers.
#[test]
fn quiet_days_and_bursts_bound_how_late_things_are() {
    for name in ["calm", "burst"] {
        let (_, text) = SHIPPED.iter().find(|(one, _)| *one == name).expect("shipped");
        let scenario = read(name, text, &[], 1.0).expect("right");
        assert!(scenario.probe.is_some(), "{name}: without a probe nothing is visible");
        for late in ["due.p99", "webhook_due.p99", "visible.p99"] {
            let bound: Bound = scenario.pass.get(late).expect(late).parse().expect("a bound");
            assert!(bound.holds(1_000.0) && !bound.holds(10_000.0), "{name}: {late} {bound}");
        }
    }
}

/// A server that charges a text of two SMS parts as one, or that sends to whoever was imported twice, fails every check of a change.
#[test]
fn smoke_has_long_texts_and_recipients_that_are_imported_twice() {
    let (_, text) = SHIPPED.iter().find(|(one, _)| *one == "smoke").expect("shipped");
    let jobs = load::jobs(&read("smoke", text, &[], 1.0).expect("right"));
    assert!(jobs.iter().any(|job| job.long && job.plan.template == "long"));
    assert!(jobs.iter().any(|job| (10..=job.recipients).contains(&job.repeated)));
    assert!(problems(&format!("{GOOD}long = true\n")).contains("campaigns[0].long: says nothing for channel meta"));
}

#[test]
fn everything_wrong_is_said_at_once() {
    let text = "
        about = \"a\"
        sead = 3
        [server]
        store = \"scylla\"
        nodes = 3
        [[lines]]
        ceiling = 0
        [[campaigns]]
        recipients = 5
        lasts_s = 5
        repeated = 2.0
        channel = \"sms\"
        rate = [9, 2]
        [[disturbances]]
        kind = \"kill\"
        share = 0.5
        [[disturbances]]
        kind = \"pause\"
        campaign = \"nobody\"
        [[disturbances]]
        kind = \"store_full\"
        for_ms = 5
        [statuses]
        redd = 1.0
        [pass]
        \"webhook.p9\" = \"<= 5\"
        \"efficiency\" = \"0.6\"
        \"rate.cycle\" = 5
        [colour]
    ";
    let found = problems(text);
    for words in [
        "sead: no such key (did you mean seed?)",
        "disturbances[2].kind: no file of the server is its store",
        "server.nodes: 3 nodes",
        "lines[0].ceiling: must be 1 to 1000000",
        "campaigns[0].recipients: exactly one of",
        "campaigns[0].repeated: must be 0 to 1",
        "campaigns[0].channel: no line of this channel",
        "campaigns[0].rate: must be at least 1, lowest first",
        "disturbances[0].share: says nothing for Kill",
        "disturbances[1].for_ms: is missing for Pause",
        "disturbances[1].campaign: no campaigns of the name nobody",
        "statuses.redd: no such key (did you mean read?)",
        "pass.\"webhook.p9\": no such figure (did you mean webhook.p99?)",
        "pass.\"efficiency\": 0.6 is no bound",
        "pass.rate.cycle: 5 is no bound",
        "colour: no such section",
    ] {
        assert!(found.contains(words), "{words} is not among\n{found}");
    }
    assert!(problems("about = ").contains("line 1"));
    assert!(problems("about = \"a\"\n[[lines]]\n").contains("campaigns: is missing"));
    assert!(problems(&format!("{GOOD}[server.config.listen]\ngrpc = \"x\"\n")).contains("written by the harness"));
    let stopped = "[[disturbances]]\nkind = \"store_stop\"\nfor_ms = 5\n";
    assert!(problems(&format!("{GOOD}{stopped}")).contains("disturbances[0].kind: the embedded store has no server"));
    assert_eq!(problems(&format!("{GOOD}{stopped}[server]\nstore = \"scylla\"\n")), "");
    assert_eq!(problems(GOOD), "");
}

#[test]
fn keys_can_be_set_from_outside() {
    let set = |orders: &[&str]| {
        let orders: Vec<String> = orders.iter().map(|one| (*one).to_owned()).collect();
        read("t", GOOD, &orders, 1.0)
    };
    let scenario = set(&[
        "seed=9",
        "campaigns.0.recipients=[7, 7]",
        "server.config.store.sync=normal",
        "pass.webhook.p99=<= 5",
        "statuses.from=silent",
    ])
    .expect("reads");
    assert_eq!(scenario.top.seed, 9);
    assert_eq!(scenario.campaigns[0].recipients.map(|span| span.ends()), Some([7, 7]));
    assert_eq!(scenario.server.config["store"]["sync"].as_str(), Some("normal"));
    assert_eq!(scenario.pass["webhook.p99"], "<= 5");
    assert_eq!(scenario.statuses.silent, 1.0);
    for wrong in ["seed", "campaigns.7.recipients=1", "lines.0.colour=1"] {
        assert!(set(&[wrong]).is_err(), "{wrong}");
    }
}

#[test]
fn plans_are_laid_over_the_named_one() {
    let text = format!("{GOOD}[statuses]\nfrom = \"rough\"\nread = 0.25\n");
    let plan = read("t", &text, &[], 1.0).expect("reads").statuses;
    assert_eq!((plan.read, plan.shuffled), (0.25, 0.5));
}

#[test]
fn scaling_changes_sizes_and_times_but_no_rates() {
    let text =
        format!("{GOOD}rate = 50\n[[disturbances]]\nat_s = 10\nevery_ms = 5\ntimes = 20\n[floor]\nmessages = 40_000\n");
    let half = read("t", &text, &[], 0.5).expect("reads");
    assert_eq!(half.campaigns[0].recipients.map(|span| span.ends()), Some([3, 3]));
    assert_eq!(half.campaigns[0].rate.map(|span| span.ends()), Some([50, 50]));
    let disturbance = &half.disturbances[0];
    assert_eq!((disturbance.kind, disturbance.at_s, disturbance.times), (Kind::Kill, 5.0, Some(10)));
    assert_eq!(half.floor.map(|floor| floor.messages), Some(20_000));
    assert!(read("t", &text, &[], 0.0).is_err());
}

#[test]
fn the_same_seed_gives_the_same_load() {
    let text = "
        about = \"a\"
        [[lines]]
        count = 4
        ceiling = 100
        [[campaigns]]
        count = 50
        rate = [1, 90]
        lasts_s = 10
        stagger_ms = 100
        [[disturbances]]
        every_ms = [100, 2_500]
        times = 30
        at_s = 1.5
    ";
    let load = |seed: u64| {
        let scenario = read("t", text, &[format!("seed={seed}")], 1.0).expect("reads");
        let jobs: Vec<(String, u32, Option<u32>)> =
            load::jobs(&scenario).into_iter().map(|job| (job.plan.id, job.recipients, job.plan.rate)).collect();
        (jobs, load::pauses(&scenario, 0))
    };
    assert_eq!(load(1), load(1));
    assert_ne!(load(1), load(2));
    let (jobs, pauses) = load(1);
    assert_eq!((jobs.len(), pauses.len()), (50, 30));
    assert!(jobs.iter().all(|(_, recipients, rate)| Some(*recipients) == rate.map(|rate| rate * 10)));
    assert_eq!(pauses[0].as_millis(), 1_500);
    assert!(pauses[1..].iter().all(|pause| (100..=2_500).contains(&pause.as_millis())));
}

#[test]
fn scheduled_campaigns_need_time_to_be_sealed_and_are_not_followed() {
    let head = "about = \"a\"\n[[lines]]\nceiling = 100\n[[campaigns]]\nlasts_s = 10\ncount = 100\nscheduled = true\n";
    for scale in [1.0, 0.1] {
        let scenario = read("t", &format!("{head}start_s = 2.5\n"), &[], scale).expect("reads");
        assert!(load::jobs(&scenario).iter().all(|job| job.scheduled && job.start.as_millis() == 2_500));
    }
    let error = read("t", &format!("{head}start_s = 2.4\nrefill = true\n"), &[], 1.0).expect_err("neither").to_string();
    assert!(error.contains("campaigns[0].start_s") && error.contains("campaigns[0].refill"), "{error}");
}

#[test]
fn without_a_rate_the_ceilings_are_shared() {
    let text = "about = \"a\"\n[[lines]]\ncount = 4\nceiling = 100\n[[campaigns]]\ncount = 8\nlasts_s = 10\n[probe]\n";
    let scenario = read("t", text, &[], 1.0).expect("reads");
    assert!(load::jobs(&scenario).iter().all(|job| job.recipients == 500));
    assert_eq!(load::lines(&scenario).meta, vec![100, 100, 100, 100, 20], "the probe's line is the last");
}
