//! Which campaigns or messages a command is for: names, or a filter put together from options.

use clap::Args;
use sluice_proto::v1::ListCampaignsRequest;

use super::connect::Server;
use super::failure::{Exit, Failure, Outcome};
use super::output::{Console, collect};
use super::values;

/// Options that select campaigns.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Selection")]
pub struct CampaignFilterArgs {
    /// Only campaigns with this label; may be repeated, then all must hold
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::key_value)]
    pub labels: Vec<(String, String)>,
    /// Only campaigns of this pool
    #[arg(long, value_name = "POOL")]
    pub pool: Option<String>,
    /// Only campaigns in one of these states, e.g. `running,paused`
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<String>,
    /// More terms in the words of the contract, e.g. `created>=2031-05-01T00:00:00Z`
    #[arg(long, value_name = "TERMS")]
    pub filter: Option<String>,
}

impl CampaignFilterArgs {
    /// The filter as the contract writes it; empty when no option was given.
    #[must_use]
    pub fn text(&self) -> String {
        let mut terms = Vec::new();
        terms.extend(self.labels.iter().map(|(key, value)| format!("label.{key}={}", quoted(value))));
        terms.extend(self.pool.iter().map(|pool| format!("pool={}", quoted(pool))));
        terms.extend(alternatives("state", &self.state));
        terms.extend(self.filter.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()));
        terms.join(" ")
    }
}

/// Options that select messages.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Selection")]
pub struct MessageFilterArgs {
    /// Only messages that show one of these, e.g. `failed,unconfirmed`
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    pub status: Vec<String>,
    /// Only messages that reached this stage or a higher one: sent, delivered or read
    #[arg(long, value_name = "STAGE")]
    pub stage: Option<String>,
    /// Only messages that failed with this code of the provider
    #[arg(long, value_name = "CODE")]
    pub failure_code: Option<String>,
    /// Only the message with this id of your own
    #[arg(long, value_name = "ID")]
    pub external_id: Option<String>,
    /// Only messages to this address, E.164
    #[arg(long, value_name = "PHONE")]
    pub address: Option<String>,
    /// Only messages that both failed and were delivered
    #[arg(long)]
    pub conflict: bool,
    /// Only messages that are known to have gone out twice
    #[arg(long)]
    pub double: bool,
    /// More terms in the words of the contract
    #[arg(long, value_name = "TERMS")]
    pub filter: Option<String>,
}

impl MessageFilterArgs {
    /// The filter as the contract writes it; empty when no option was given.
    #[must_use]
    pub fn text(&self) -> String {
        let mut terms = Vec::new();
        terms.extend(alternatives("status", &self.status));
        terms.extend(self.stage.iter().map(|stage| format!("stage>={}", quoted(stage))));
        terms.extend(self.failure_code.iter().map(|code| format!("failure_code={}", quoted(code))));
        terms.extend(self.external_id.iter().map(|id| format!("external_id={}", quoted(id))));
        terms.extend(self.address.iter().map(|address| format!("address={}", quoted(address))));
        terms.extend(self.conflict.then(|| "conflict=true".to_owned()));
        terms.extend(self.double.then(|| "double=true".to_owned()));
        terms.extend(self.filter.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()));
        terms.join(" ")
    }
}

fn alternatives(field: &str, values: &[String]) -> Option<String> {
    if values.is_empty() {
        return None;
    }
    let values: Vec<String> = values.iter().map(|value| quoted(&value.replace('-', "_"))).collect();
    Some(format!("{field}={}", values.join(",")))
}

/// A value as a filter takes it: in quotes when it would fall apart without.
fn quoted(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, ',' | '"' | '\\');
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Campaigns by name or by filter, and the consent to several.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectArgs {
    /// The campaigns
    #[arg(value_name = "CAMPAIGN")]
    pub campaigns: Vec<String>,
    /// Do not ask, also when it is more than one
    #[arg(long, short = 'y')]
    pub yes: bool,
    #[command(flatten)]
    pub filter: CampaignFilterArgs,
}

impl SelectArgs {
    /// The ids of the campaigns. By filter they are looked up first, so that what is confirmed is what is done.
    ///
    /// # Errors
    /// Nothing selected, both ways at once, no match, or no consent to more than one.
    pub async fn ids(&self, verb: &str, server: &Server, console: &mut Console) -> Outcome<Vec<String>> {
        let filter = self.filter.text();
        let ids = match (self.campaigns.is_empty(), filter.is_empty()) {
            (true, true) => {
                return Err(Failure::usage(format!(
                    "which campaigns to {verb}? name them, or give --label, --pool, --state or --filter"
                )));
            }
            (false, false) => return Err(Failure::usage("give either names or a filter, not both")),
            (false, true) => {
                let mut ids = self.campaigns.clone();
                ids.sort_unstable();
                ids.dedup();
                ids
            }
            (true, false) => matching(server, &filter).await?,
        };
        if ids.is_empty() {
            return Err(Failure::new(Exit::NotFound, format!("no campaign matches `{filter}`")));
        }
        if ids.len() > 1 && !self.yes {
            const SHOWN: usize = 10;
            let mut names = ids.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            if ids.len() > SHOWN {
                names = format!("{names} and {} more", ids.len() - SHOWN);
            }
            console.confirm(&format!("{verb} {} campaigns: {names}?", ids.len()))?;
        }
        Ok(ids)
    }
}

async fn matching(server: &Server, filter: &str) -> Outcome<Vec<String>> {
    let page = |page_size, page_token| async move {
        let request = ListCampaignsRequest { page_size, page_token, filter: filter.to_owned() };
        let answer = server.campaigns().list_campaigns(server.request(request)).await?.into_inner();
        let ids = answer.campaigns.into_iter().map(|campaign| campaign.campaign_id).collect();
        Ok((ids, answer.next_page_token))
    };
    Ok(collect(0, page).await?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_written_as_the_contract_reads_them() {
        let campaigns = CampaignFilterArgs {
            labels: vec![("team".into(), "growth".into()), ("note".into(), "a \"b\", c".into())],
            pool: Some("eu".into()),
            state: vec!["running".into(), "paused".into()],
            filter: Some(" created>=2031-05-01T00:00:00Z ".into()),
        };
        assert_eq!(
            campaigns.text(),
            r#"label.team=growth label.note="a \"b\", c" pool=eu state=running,paused created>=2031-05-01T00:00:00Z"#
        );
        let messages = MessageFilterArgs {
            status: vec!["in-doubt".into(), "failed".into()],
            stage: Some("sent".into()),
            failure_code: Some("131026".into()),
            external_id: Some(String::new()),
            address: Some("+15550100".into()),
            conflict: true,
            double: true,
            filter: None,
        };
        assert_eq!(
            messages.text(),
            "status=in_doubt,failed stage>=sent failure_code=131026 external_id=\"\" address=+15550100 conflict=true double=true"
        );
        assert_eq!(CampaignFilterArgs::default().text(), "");
    }
}
