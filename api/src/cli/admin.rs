//! `info`, `backup`, `imports`: the server and what it holds.

use sluice_proto::v1::{BackupRequest, GetServerInfoRequest, ListImportsRequest, ListImportsResponse};

use super::connect::Server;
use super::failure::{Exit, Outcome};
use super::output::{Console, Table, collect, or_dash};
use super::values;

/// Runs `info`.
pub async fn info(server: &Server, console: &mut Console) -> Outcome {
    let answer = server.admin().get_server_info(server.request(GetServerInfoRequest {})).await?.into_inner();
    console.answer(&answer, |answer, width| {
        let uptime = answer.uptime.as_ref().map_or(0, |uptime| u64::try_from(uptime.seconds).unwrap_or(0));
        Table::pairs(
            width,
            [
                ("server", server.address().to_owned()),
                ("version", answer.version.clone()),
                ("node", or_dash(&answer.node_id)),
                ("store", format!("{}, schema {}", answer.store_kind, answer.schema_version)),
                ("up for", values::span(uptime)),
                ("clock", values::time(answer.now.as_ref())),
                ("tenant", or_dash(&answer.tenant_id)),
                ("scopes", or_dash(&answer.scopes.join(", "))),
            ],
        )
    })?;
    Ok(Exit::Ok)
}

/// Runs `backup`.
pub async fn backup(file_name: &str, server: &Server, console: &mut Console) -> Outcome {
    let request = server.long_request(BackupRequest { file_name: file_name.to_owned() });
    let answer = server.admin().backup(request).await?.into_inner();
    console.answer(&answer, |answer, _| {
        let (size, time) = (values::count(answer.size_bytes), values::time(answer.as_of.as_ref()));
        format!("{} on the server, {size} bytes, as of {time}\n", answer.path)
    })?;
    Ok(Exit::Ok)
}

/// Runs `imports`.
pub async fn imports(campaign: &str, server: &Server, console: &mut Console) -> Outcome {
    let page = |page_size, page_token| {
        let request = ListImportsRequest { campaign_id: campaign.to_owned(), page_size, page_token };
        async move {
            let answer = server.imports().list_imports(server.request(request)).await?.into_inner();
            Ok((answer.imports, answer.next_page_token))
        }
    };
    let (imports, next_page_token) = collect(0, page).await?;
    let as_of = imports.first().and_then(|import| import.as_of);
    let answer = ListImportsResponse { imports, next_page_token, as_of };
    console.list(&answer, &answer.imports, |imports, width| {
        let mut table = Table::new(width, &["IMPORT", "ROWS>", "STORED>", "REFUSED>", "OPENED", "LAST CHUNK"]);
        for import in imports {
            table.row([
                import.import_id.clone(),
                values::count(import.acked_rows),
                values::count(import.stored_rows),
                values::count(import.refused_rows),
                values::time(import.create_time.as_ref()),
                values::time(import.update_time.as_ref()),
            ]);
        }
        table.text()
    })?;
    Ok(Exit::Ok)
}
