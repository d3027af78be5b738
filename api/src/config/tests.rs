//! The sample against the reader, and everything that can be wrong.

use std::fmt::Write as _;

use super::*;

const SAMPLE: &str = include_str!("../../sluice.sample.toml");
/// What must be given and has no default; the rest of a minimal file.
const AUTH: &str = "[auth]\nissuer = \"i\"\naudience = \"a\"\ndevelopment_secret_env = \"DEV\"\n";

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut all: BTreeMap<_, _> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    all.insert("DEV".to_owned(), "d".repeat(32));
    all.insert("SECRET".to_owned(), "s3cret-value".to_owned());
    all
}

fn read_here(text: &str, environment: &BTreeMap<String, String>) -> (Config, Vec<Problem>, Vec<Key>) {
    read(text, Path::new("/etc/sluice"), environment)
}

/// The problems of `text`, as people see them.
fn problems(text: &str) -> Vec<String> {
    problems_with(text, &[])
}

fn problems_with(text: &str, pairs: &[(&str, &str)]) -> Vec<String> {
    let (_, problems, _) = read_here(text, &environment(pairs));
    problems.iter().map(ToString::to_string).collect()
}

fn good(text: &str, pairs: &[(&str, &str)]) -> Config {
    let (config, problems, _) = read_here(text, &environment(pairs));
    assert!(problems.is_empty(), "{problems:#?}");
    config
}

/// The sample with every key that is commented out brought to life.
fn whole_sample() -> String {
    let mut whole = String::new();
    for line in SAMPLE.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let key = bare.split_once(" = ").map_or("", |(key, _)| key);
        let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let is_section = bare.starts_with('[') && bare.ends_with(']');
        writeln!(whole, "{}", if is_key || is_section { bare } else { line }).expect("a String");
    }
    whole
}

#[test]
fn the_sample_is_the_defaults() {
    let (sample, problems, _) = read_here(SAMPLE, &environment(&[]));
    let (empty, problems_of_nothing, _) = read_here("", &environment(&[]));
    assert_eq!(format!("{sample:#?}"), format!("{empty:#?}"));
    // What has no default is missing in both, and nothing else is wrong.
    let keys = |problems: &[Problem]| problems.iter().map(|p| (p.kind, p.key.clone())).collect::<Vec<_>>();
    let required = ["auth.issuer", "auth.audience", "auth.jwks_file"].map(|key| (Kind::Required, key.to_owned()));
    assert_eq!(keys(&problems), required);
    assert_eq!(keys(&problems_of_nothing), required);
}

#[test]
fn every_key_stands_in_the_sample_and_no_other() {
    let whole = whole_sample();
    let (_, problems, keys) = read_here(&whole, &environment(&[]));
    let unknown: Vec<_> = problems.iter().filter(|p| matches!(p.kind, Kind::UnknownKey | Kind::Syntax)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");

    let has = |text: &str, path: &str| {
        let table: toml::Table = toml::from_str(text).expect("the sample is TOML");
        let mut at = vec![toml::Value::Table(table)];
        for part in path.split('.') {
            let inner = at.iter().filter_map(toml::Value::as_table);
            at = match part {
                "*" => inner.flat_map(|table| table.values().cloned()).collect(),
                _ => inner.filter_map(|table| table.get(part).cloned()).collect(),
            };
        }
        !at.is_empty()
    };
    assert!(keys.len() > 80, "{} keys", keys.len());
    for key in keys {
        assert!(has(&whole, &key.path), "{} does not stand in the sample", key.path);
        // Keys with a default show it uncommented, but for those of accounts, which are examples altogether.
        let shown = key.path.starts_with("accounts.") || key.default.is_none() || has(SAMPLE, &key.path);
        assert!(shown, "{} has a default and is commented out", key.path);
    }
}

#[test]
fn a_minimal_file_is_good() {
    let config = good(AUTH, &[]);
    assert_eq!(config.listen.grpc.to_string(), "127.0.0.1:7400");
    assert_eq!(config.data_dir, Path::new("/etc/sluice/sluice-data"));
    assert_eq!(config.webhooks.body_bytes_max, 3_407_872);
    assert_eq!(config.breaker.run_max, 20);
}

#[test]
fn the_limits_of_streams_are_keys() {
    let text = format!(
        "{AUTH}[grpc]\nimports_max = 3\nexports_max = 5\nwatches_max = 7\nimports_tenant_max = 2\nexports_tenant_max = 4\nwatches_tenant_max = 6\n"
    );
    let limits = crate::grpc::GrpcLimits::from(&good(&text, &[]).grpc);
    assert_eq!((limits.imports_max, limits.exports_max, limits.watches_max), (3, 5, 7));
    assert_eq!((limits.imports_tenant_max, limits.exports_tenant_max, limits.watches_tenant_max), (2, 4, 6));
}

#[test]
fn times_and_sizes_of_calls_are_keys() {
    let text = format!(
        "{AUTH}[grpc]\nanswer_bytes_max = 65_536\nfirst_call_timeout_ms = 100\nexport_idle_s = 1\nlong_request_timeout_ms = 40_000\n"
    );
    let limits = crate::grpc::GrpcLimits::from(&good(&text, &[]).grpc);
    assert_eq!(limits.answer_bytes_max, 65_536);
    assert_eq!((limits.first_call_timeout.as_millis(), limits.export_idle.as_secs()), (100, 1));
    assert_eq!((limits.call_times.ordinary.as_secs(), limits.call_times.long.as_secs()), (30, 40));
    let report = problems(&format!("{AUTH}[grpc]\nlong_request_timeout_ms = 20_000\n"));
    let expected = "line 6: grpc.long_request_timeout_ms: must be at least request_timeout_ms";
    assert!(report.len() == 1 && report[0].starts_with(expected), "{report:#?}");
}

/// A default that every campaign or line would be refused with is refused here.
#[test]
fn defaults_of_campaigns_and_lines_are_within_their_bounds() {
    good(&format!("{AUTH}[campaigns]\nworkers = 10_000\n[provider]\nline_in_flight_max = 4_096\n"), &[]);
    let report = problems(&format!("{AUTH}[campaigns]\nworkers = 10_001\n[provider]\nline_in_flight_max = 4_097\n"));
    for expected in [
        "line 6: campaigns.workers: must be a whole number from 1 to 10000, not 10001",
        "line 8: provider.line_in_flight_max: must be a whole number from 1 to 4096, not 4097",
    ] {
        assert!(report.iter().any(|line| line.starts_with(expected)), "{expected} is not in {report:#?}");
    }
}

#[test]
fn accounts_of_both_providers() {
    let text = format!(
        "public_base_url = \"https://hooks.example.com/\"\n{AUTH}
[accounts.main]
provider = \"meta\"
tenants = [\"acme\"]
access_token_env = \"SECRET\"
app_secret_env = \"SECRET\"
verify_token_env = \"SECRET\"
[accounts.\"sms.eu-1\"]
provider = \"twilio\"
tenants = [\"*\"]
base_url = \"http://127.0.0.1:9000/\"
account_sid = \"AC00000000000000000000000000000001\"
auth_token_env = \"SECRET\"
secondary_token_env = \"SECRET\"
api_key_sid = \"SK00000000000000000000000000000001\"
api_key_secret_env = \"SECRET\"
"
    );
    let config = good(&text, &[("SLUICE__ACCOUNTS__SMS_EU_1__BASE_URL", "http://127.0.0.1:9001/")]);
    let [main, sms] = config.accounts.as_slice() else { panic!("two accounts") };
    assert_eq!((main.name.as_str(), main.base_url.as_str()), ("main", "https://graph.facebook.com"));
    assert!(main.allows("acme") && !main.allows("globex") && sms.allows("globex"));
    assert_eq!(sms.base_url, "http://127.0.0.1:9001");
    let ProviderAccount::Twilio(twilio) = &sms.provider else { panic!("a Twilio account") };
    assert_eq!(twilio.auth_token.expose(), "s3cret-value");
    assert!(twilio.api_key.is_some() && twilio.secondary_token.is_some());
    assert!(!format!("{config:?}").contains("s3cret-value"), "secrets do not show");
}

#[test]
fn all_problems_at_once_each_with_its_line_and_a_hint() {
    let text = "
data_dri = \"x\"
[lisen]
grpc = \"127.0.0.1:1\"
[listen]
grpc = \"nonsense\"
[store]
sync = \"ful\"
cache_mib = 0
group_commit_ms = \"2\"
body_bytes_max = 1
[webhooks]
body_byte_max = 1
[log]
level = \"loud\"
";
    let report = problems(text);
    for expected in [
        "line 2: data_dri: unknown key; did you mean data_dir?",
        "line 3: lisen: unknown key; did you mean [listen]?",
        "line 6: listen.grpc: \"nonsense\": must be address:port, e.g. 0.0.0.0:7400",
        "line 8: store.sync: must be one of full, normal, not \"ful\"; did you mean \"full\"?",
        "line 9: store.cache_mib: must be a whole number from 1 to 4096, not 0; the default is 4",
        "line 10: store.group_commit_ms: must be a whole number from 0 to 100; the default is 8",
        "line 11: store.body_bytes_max: unknown key; it belongs in [webhooks]",
        "line 13: webhooks.body_byte_max: unknown key; did you mean body_bytes_max?",
    ] {
        assert!(report.iter().any(|line| line == expected), "{expected} is not in {report:#?}");
    }
    assert!(report.iter().any(|line| line.starts_with("line 15: log.level: \"loud\"")), "{report:#?}");
    assert!(report.iter().any(|line| line.starts_with("missing: auth.issuer")), "{report:#?}");
    assert_eq!(report.len(), 12, "{report:#?}");
}

#[test]
fn broken_toml_is_named_by_line() {
    let report = problems(&format!("data_dir = \nlisten = 7\n{AUTH}"));
    assert!(report[0].starts_with("line 1: "), "{report:#?}");
    assert!(
        report.iter().any(|line| line.starts_with("line 2: listen: must be a section, not an integer")),
        "{report:#?}"
    );
}

#[test]
fn the_environment_overrides_the_file() {
    let text = format!("[store]\ncache_mib = 64\n{AUTH}");
    let pairs = [
        ("SLUICE__STORE__CACHE_MIB", "128"),
        ("SLUICE__LISTEN__OPS", "0.0.0.0:9"),
        ("SLUICE__DATA_DIR", "/var/lib/sluice"),
        ("SLUICE__LOG__FORMAT", "json"),
    ];
    let config = good(&text, &pairs);
    assert_eq!((config.store.cache_mib, config.listen.ops.port()), (128, 9));
    assert_eq!((config.data_dir.as_path(), config.log.format), (Path::new("/var/lib/sluice"), LogFormat::Json));
}

#[test]
fn wrong_overrides_are_named() {
    let report = problems_with(AUTH, &[("SLUICE__STORE__CACHE_MB", "128"), ("SLUICE__STORE__GROUP_COMMIT_MS", "soon")]);
    assert_eq!(
        report,
        [
            "environment SLUICE__STORE__CACHE_MB: overrides no key; did you mean SLUICE__STORE__CACHE_MIB?",
            "environment SLUICE__STORE__GROUP_COMMIT_MS: store.group_commit_ms: must be a whole number from 0 to 100; the default is 8",
        ]
    );
}

#[test]
fn secrets_come_from_files_and_variables_only() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("good"), "from-a-file\n").expect("it is writable");
    std::fs::write(directory.path().join("empty"), "\n").expect("it is writable");
    let account = |lines: &str| {
        let text = format!(
            "public_base_url = \"https://h.example\"\n{AUTH}[accounts.main]\nprovider = \"meta\"\ntenants = [\"*\"]\nverify_token_env = \"SECRET\"\naccess_token_env = \"SECRET\"\n{lines}\n"
        );
        read(&text, directory.path(), &environment(&[]))
    };
    let (config, problems, _) = account("app_secret_file = \"good\"");
    assert!(problems.is_empty(), "{problems:#?}");
    let ProviderAccount::Meta(meta) = &config.accounts[0].provider else { panic!("a Meta account") };
    assert_eq!(meta.app_secret.expose(), "from-a-file", "without the newline");

    for (lines, expected) in [
        (
            "app_secret = \"hunter2hunter2\"",
            "line 11: accounts.main.app_secret: a secret is never written into the configuration",
        ),
        ("app_secret_env = \"hunter2hunter2\"", "line 11: accounts.main.app_secret_env: does not look like the name"),
        (
            "app_secret_env = \"NOT_SET\"",
            "line 11: accounts.main.app_secret_env: the environment variable NOT_SET is not set",
        ),
        ("app_secret_file = \"none\"", "line 11: accounts.main.app_secret_file: cannot read"),
        ("app_secret_file = \"empty\"", "line 11: accounts.main.app_secret_file: "),
        (
            "app_secret_file = \"good\"\napp_secret_env = \"SECRET\"",
            "line 12: accounts.main.app_secret_env: app_secret_file is given too",
        ),
        ("", "missing: accounts.main.app_secret_file: this secret is required"),
    ] {
        let (_, problems, _) = account(lines);
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 1, "{shown:#?}");
        assert!(shown[0].starts_with(expected), "{expected} is not {}", shown[0]);
        assert!(!shown[0].contains("hunter2"), "{}", shown[0]);
    }
}

#[test]
fn sections_are_held_against_each_other() {
    for (text, expected) in [
        ("[listen]\nops = \"127.0.0.1:7400\"\n", "line 2: listen.ops: 127.0.0.1:7400 is used by another listener"),
        (
            "[retry]\nbackoff_ms_min = 9000\nbackoff_ms_max = 8000\n",
            "line 2: retry.backoff_ms_min: must not be above backoff_ms_max",
        ),
        (
            "[webhooks]\naccount_bytes_max = 70000\n",
            "line 2: webhooks.account_bytes_max: must be at least body_bytes_max",
        ),
        ("[tls.webhooks]\ncert_file = \"x\"\n", "missing: tls.webhooks.key_file: required beside cert_file"),
        (
            "[tls.webhooks]\ncert_file = \"x\"\nkey_file = \"y\"\n",
            "line 2: tls.webhooks.cert_file: no certificate in /etc/sluice/x",
        ),
        ("public_base_url = \"hooks\"\n", "line 1: public_base_url: must start with https:// or http://"),
    ] {
        let report = problems(&format!("{text}{AUTH}"));
        assert_eq!(report.len(), 1, "{report:#?}");
        assert!(report[0].starts_with(expected), "{expected} is not {}", report[0]);
    }
}

#[test]
fn accounts_are_checked() {
    let report = problems(&format!(
        "{AUTH}[accounts.Main]\nprovider = \"metta\"\naccess_token_env = \"SECRET\"\napp_secret_env = \"SECRET\"\nverify_token_env = \"SECRET\"\naccount_sid = \"x\"\napi_version = \"25\"\n[accounts.sms]\nprovider = \"twilio\"\ntenants = [1]\naccount_sid = \"x\"\nauth_token_env = \"SECRET\"\napi_key_sid = \"y\"\n"
    ));
    for expected in [
        "line 5: accounts.Main: not a name for an account",
        "missing: accounts.Main.tenants: no tenant may use this account",
        "line 6: accounts.Main.provider: must be one of meta, twilio, not \"metta\"; did you mean \"meta\"?",
        "line 10: accounts.Main.account_sid: unknown key; accounts of the other provider have it",
        "line 11: accounts.Main.api_version: \"25\": must be a version such as v25.0",
        "line 14: accounts.sms.tenants: must be a list of texts",
        "line 15: accounts.sms.account_sid: must be AC and 32 hex digits",
        "missing: accounts.sms.api_key_secret_file: required beside api_key_sid",
        "missing: public_base_url: required when there are accounts",
    ] {
        assert!(report.iter().any(|line| line.starts_with(expected)), "{expected} is not in {report:#?}");
    }
}

#[test]
fn tenants_of_accounts_are_such_as_tokens_carry() {
    let report = problems(&format!(
        "{AUTH}[accounts.main]\nprovider = \"meta\"\ntenants = [\"acme\", \"\", \"A B\", \"*x\", \"*\"]\n"
    ));
    let wrong: Vec<&String> = report.iter().filter(|line| line.contains("accounts.main.tenants")).collect();
    assert_eq!(wrong.len(), 3, "{report:#?}");
    for (line, name) in wrong.iter().zip(["\"\"", "\"A B\"", "\"*x\""]) {
        assert!(line.starts_with(&format!("line 7: accounts.main.tenants: {name} can be no tenant")), "{line}");
    }
}

/// A token or a key file, named by mistake.
#[test]
fn a_file_that_is_something_else_is_not_repeated_on_the_screen() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("sluice.toml");
    let secret = "s".repeat(500);
    std::fs::write(&file, format!("{secret} = 1\n").repeat(1) + &format!("x{secret}\n").repeat(4_000))
        .expect("it is writable");
    let report = check_with(&file, &environment(&[]));
    assert!(report.config.is_none() && report.problems.len() > 1_000);
    let shown = report.to_string();
    assert!(shown.lines().count() < 60 && shown.contains(" more: is this the right file?"), "{shown}");
    assert!(!shown.contains(&"s".repeat(50)), "{shown}");
}

#[test]
fn a_report_says_how_many_and_a_missing_file_is_one() {
    let report = check_with(Path::new("/nowhere/sluice.toml"), &environment(&[]));
    assert!(report.config.is_none());
    assert!(report.to_string().starts_with("/nowhere/sluice.toml: 1 problem\n  missing: cannot be read: "), "{report}");

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("sluice.toml");
    std::fs::write(&file, AUTH).expect("it is writable");
    let report = check_with(&file, &environment(&[]));
    assert!(report.config.is_some() && report.to_string().ends_with("sluice.toml: good"), "{report}");
}

#[test]
fn a_node_among_others_needs_a_secret_that_is_long_enough() {
    let text = |more: &str| {
        let node = "[nodes]\nname = \"a\"\nadvertise = \"10.0.0.7:7403\"\n";
        format!("{AUTH}[store]\nkind = \"scylla\"\n[store.scylla]\ncontact_points = [\"10.0.0.1:9042\"]\n{node}{more}")
    };
    let found = problems(&text(""));
    assert!(found.len() == 1 && found[0].contains("nodes.secret_file"), "{found:#?}");
    let with = |value: String| problems_with(&text("secret_env = \"NODE\"\n"), &[("NODE", &value)]);
    let found = with("x".repeat(31));
    assert!(found.len() == 1 && found[0].contains("at least 32 bytes") && !found[0].contains("xxx"), "{found:#?}");
    assert_eq!(with("x".repeat(32)), [""; 0]);
    let found = problems(&format!("{AUTH}[nodes]\nlisten = \"here\"\nca_file = \"/nowhere.pem\"\n"));
    assert!(found.len() == 2 && found.iter().any(|p| p.contains("nodes.ca_file")), "{found:#?}");
}
