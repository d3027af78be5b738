//! The Prometheus recorder: installed first of all, since a handle made before it counts into nothing for ever.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// The recorder could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("the metrics recorder could not be installed: {0}")]
pub struct RecorderError(#[from] BuildError);

/// For names that end in `seconds`: from a tenth of a millisecond (a commit on a good disk) to a provider's patience.
const SECONDS: [f64; 17] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// For names that end in `bytes`.
const BYTES: [f64; 8] = [256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0];
/// For everything else: batch sizes, entries of a commit.
const COUNTS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 100.0, 250.0, 1_000.0, 2_500.0, 10_000.0];

/// How often raw samples are folded into buckets between scrapes; without it they pile up.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The recorder's settings. Every histogram has buckets: without them it would be rendered as quantiles, which cannot be added
/// up over machines.
///
/// # Errors
/// [`RecorderError`].
pub fn builder() -> Result<PrometheusBuilder, RecorderError> {
    Ok(PrometheusBuilder::new()
        .with_recommended_naming(true)
        .set_buckets(&COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("bytes".to_owned()), &BYTES)?)
}

/// Installs the recorder for the whole process. To be called before anything registers a metric.
///
/// # Errors
/// [`RecorderError`], for example when there is one already.
pub fn install() -> Result<PrometheusHandle, RecorderError> {
    Ok(builder()?.install_recorder()?)
}

/// Keeps the recorder's memory bounded until `stop`; the exporter leaves this to us.
pub async fn upkeep(handle: PrometheusHandle, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(UPKEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => handle.run_upkeep(),
        }
    }
}
