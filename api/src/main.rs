//! The binary `sluice`.
fn main() -> std::process::ExitCode {
    let path = std::env::args().skip_while(|a| a != "--config").nth(1).unwrap_or_default();
    let report = sluice_api::config::check(std::path::Path::new(&path));
    let Some(config) = report.config.clone() else {
        eprintln!("{report}");
        return std::process::ExitCode::from(2);
    };
    sluice_api::telemetry::init(&config.log).expect("logs");
    let options = sluice_api::assembly::ServeOptions { print_addresses: true };
    tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(sluice_api::assembly::run(config, options))
        .expect("it starts")
}
