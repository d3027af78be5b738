//! `pools …`, `accounts`: what lines belong to.

use clap::Subcommand;
use sluice_proto::v1::{
    GetPoolRequest, ListAccountsRequest, ListAccountsResponse, ListPoolsRequest, ListPoolsResponse, Pool,
    UpdatePoolRequest,
};

use super::connect::Server;
use super::failure::{Exit, Outcome};
use super::output::{Console, Table, collect, or_dash};
use super::values;

/// What to do with pools.
#[derive(Debug, Clone, Subcommand)]
pub enum PoolsCommand {
    /// List pools
    List {
        /// The most to list; 0 for all
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
    },
    /// Show one pool
    Show {
        /// The pool
        pool: String,
    },
    /// Change a pool's description
    Update {
        /// The pool
        pool: String,
        /// New description
        #[arg(long)]
        description: String,
        /// Only if this is still its version
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
}

/// Runs `pools …`.
pub async fn run(command: &PoolsCommand, server: &Server, console: &mut Console) -> Outcome {
    let mut client = server.lines();
    match command {
        PoolsCommand::List { limit } => {
            let page = |page_size, page_token| async move {
                let request = server.request(ListPoolsRequest { page_size, page_token });
                let answer = server.lines().list_pools(request).await?.into_inner();
                Ok((answer.pools, answer.next_page_token))
            };
            let (pools, next_page_token) = collect(*limit, page).await?;
            let as_of = pools.first().and_then(|pool| pool.as_of);
            let answer = ListPoolsResponse { pools, next_page_token, as_of };
            console.list(&answer, &answer.pools, pool_table)?;
        }
        PoolsCommand::Show { pool } => {
            let answer = client.get_pool(server.request(GetPoolRequest { pool_id: pool.clone() })).await?.into_inner();
            console.answer(&answer, |answer, width| pool_details(answer.pool.as_ref(), width))?;
        }
        PoolsCommand::Update { pool, description, etag } => {
            let request =
                UpdatePoolRequest { pool_id: pool.clone(), etag: etag.clone(), description: Some(description.clone()) };
            let answer = client.update_pool(server.request(request)).await?.into_inner();
            console.answer(&answer, |answer, width| pool_details(answer.pool.as_ref(), width))?;
        }
    }
    Ok(Exit::Ok)
}

fn pool_table(pools: &[Pool], width: Option<u16>) -> String {
    let mut table = Table::new(width, &["POOL", "PROVIDER", "CEILING>", "LINES"]);
    for pool in pools {
        let ceiling = format!("{}/s", values::count(pool.ceiling_per_second));
        table.row([pool.pool_id.clone(), values::provider(pool.provider()), ceiling, pool.line_ids.join(", ")]);
    }
    table.text()
}

fn pool_details(pool: Option<&Pool>, width: Option<u16>) -> String {
    let Some(pool) = pool else { return String::new() };
    Table::pairs(
        width,
        [
            ("pool", pool.pool_id.clone()),
            ("provider", values::provider(pool.provider())),
            ("description", or_dash(&pool.description)),
            ("lines", or_dash(&pool.line_ids.join(", "))),
            (
                "ceiling",
                format!("{} per second over the lines that are not held", values::count(pool.ceiling_per_second)),
            ),
            ("created", values::time(pool.create_time.as_ref())),
            ("etag", or_dash(&pool.etag)),
        ],
    )
}

/// Runs `accounts`.
pub async fn accounts(server: &Server, console: &mut Console) -> Outcome {
    let page = |page_size, page_token| async move {
        let request = server.request(ListAccountsRequest { page_size, page_token });
        let answer = server.lines().list_accounts(request).await?.into_inner();
        Ok((answer.accounts, answer.next_page_token))
    };
    let (accounts, next_page_token) = collect(0, page).await?;
    let answer = ListAccountsResponse { accounts, next_page_token };
    console.list(&answer, &answer.accounts, |accounts, width| {
        let mut table = Table::new(width, &["ACCOUNT", "PROVIDERS"]);
        for account in accounts {
            let providers: Vec<String> = account.providers().map(values::provider).collect();
            table.row([account.account_id.clone(), providers.join(", ")]);
        }
        table.text()
    })?;
    Ok(Exit::Ok)
}
