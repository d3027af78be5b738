//! Views for people with the `sqlite3` shell; the program reads none of them.

use crate::domain::message::Phase;
use crate::domain::stage::{Shown, Stage};

/// `CASE` that names a number.
fn named(column: &str, names: impl IntoIterator<Item = (u8, &'static str)>) -> String {
    let arms: Vec<_> = names.into_iter().map(|(number, name)| format!("WHEN {number} THEN '{name}'")).collect();
    format!("CASE {column} {} END", arms.join(" "))
}

fn iso(column: &str) -> String {
    format!("strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch')")
}

/// The statements that make them. Names and numbers come from the domain's enums, so that they cannot drift apart.
pub(super) fn create() -> String {
    let stage_name = |column: &str| {
        let stages = [Stage::Queued, Stage::Sent, Stage::Delivered, Stage::Read];
        named(column, stages.map(|stage| (stage.rank(), Shown::from(stage).name())))
    };
    let phases = (1..=6).filter_map(|number| Phase::from_number(number).map(|phase| (number, phase.name())));
    let phase = named("m.phase", phases);
    let reached = stage_name("m.reached");
    let (accepted, in_flight, pending) = (Phase::Accepted as u8, Phase::InFlight as u8, Phase::Pending as u8);
    let sums: Vec<_> = Shown::ALL.iter().map(|shown| format!("coalesce(sum(s.{0}), 0) AS {0}", shown.name())).collect();
    format!(
        "
CREATE VIEW message_status AS
SELECT c.tenant, c.id AS campaign, r.seq, r.address, r.external_id,
    CASE
        WHEN m.id IS NULL OR (m.phase = {pending} AND NOT m.again) THEN coalesce(c.ended_as, 'pending')
        WHEN m.phase = {in_flight} THEN 'queued'
        WHEN m.phase <> {accepted} THEN {phase}
        WHEN m.read_at IS NOT NULL THEN 'read'
        WHEN m.delivered_at IS NOT NULL THEN 'delivered'
        WHEN m.sent_at IS NOT NULL THEN 'sent'
        WHEN m.accepted_at IS NOT NULL THEN 'queued'
        ELSE {reached}
    END AS status,
    {reached} AS reached, coalesce(m.attempt, 0) AS attempts, l.id AS line, m.provider_id,
    {intent_at} AS intent_at, {accepted_at} AS accepted_at, {sent_at} AS sent_at, {delivered_at} AS delivered_at,
    {read_at} AS read_at, {failed_at} AS failed_at, m.failure_code, m.failure ->> '$.title' AS failure, {due_at} AS due_at
FROM recipient r JOIN campaign c ON c.key = r.campaign
    LEFT JOIN message m ON m.id = r.id LEFT JOIN line l ON l.key = m.line;

CREATE VIEW campaign_tally AS
SELECT c.key, c.tenant, c.id, c.state, c.recipients, {sums},
    coalesce(sum(s.accepted), 0) AS accepted, coalesce(sum(s.conflicts), 0) AS conflicts,
    coalesce(sum(s.doubles), 0) AS doubles, coalesce(sum(s.open), 0) AS in_flight
FROM campaign c LEFT JOIN segment s ON s.campaign = c.key GROUP BY c.key;

CREATE VIEW attempt_in_doubt AS
SELECT c.tenant, c.id AS campaign, m.seq, r.address, m.attempt, {phase} AS phase, {intent_at} AS intent_at, {doubt_at} AS doubt_at
FROM message m JOIN campaign c ON c.key = m.campaign JOIN recipient r ON r.id = m.id
WHERE m.phase IN ({doubt}, {unconfirmed});
",
        sums = sums.join(", "),
        intent_at = iso("m.intent_at"),
        accepted_at = iso("m.accepted_at"),
        sent_at = iso("m.sent_at"),
        delivered_at = iso("m.delivered_at"),
        read_at = iso("m.read_at"),
        failed_at = iso("m.failed_at"),
        due_at = iso("m.due_at"),
        doubt_at = iso("m.doubt_at"),
        doubt = Phase::InDoubt as u8,
        unconfirmed = Phase::Unconfirmed as u8,
    )
}
