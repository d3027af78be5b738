//! Imports.

use sluice_engine::control::{Row, RowAddress, RowChunk};
use sluice_engine::domain::time::UnixMillis;
use sluice_engine::store::{ImportRecord, RefusedRow};
use sluice_proto::v1;

use super::timestamp;

/// The rows are moved, not copied: this is the way of every recipient.
pub(in crate::grpc) fn row_chunk(chunk: v1::ImportChunk) -> RowChunk {
    RowChunk {
        offset: chunk.row_offset,
        rows: chunk.rows.into_iter().map(row).collect(),
        digest: chunk.sha256.to_vec(),
    }
}

fn row(row: v1::RecipientRow) -> Row {
    Row {
        address: match row.address {
            None => RowAddress::None,
            Some(v1::recipient_row::Address::Phone(phone)) => RowAddress::Phone(phone),
            Some(v1::recipient_row::Address::National(number)) => {
                RowAddress::Parts { country_code: number.country_code, phone_number: number.phone_number }
            }
        },
        external_id: row.external_id,
        header: row.header_params,
        body: row.body_params,
        buttons: row.button_params,
        named: row.named_params.into_iter().collect(),
    }
}

pub(in crate::grpc) fn refused_row(row: RefusedRow) -> v1::RefusedRow {
    v1::RefusedRow {
        import_id: row.import.as_str().to_owned(),
        row: row.row,
        violations: vec![v1::FieldViolation { field: row.field.into(), description: row.reason.into() }],
        duplicate_of: row
            .duplicate_of
            .map(|(import, row)| v1::RowReference { import_id: import.as_str().to_owned(), row }),
    }
}

pub(in crate::grpc) fn import(campaign: &str, import: ImportRecord, as_of: UnixMillis) -> v1::Import {
    v1::Import {
        campaign_id: campaign.to_owned(),
        import_id: import.id.as_str().to_owned(),
        acked_rows: import.next_row,
        stored_rows: import.stored,
        refused_rows: import.refused,
        create_time: Some(timestamp(import.created_at)),
        update_time: Some(timestamp(import.updated_at)),
        as_of: Some(timestamp(as_of)),
    }
}
