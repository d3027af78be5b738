//! The fake's lines, templates, imports and messages.

use std::pin::Pin;

use sluice_proto::v1::{
    import_recipients_request::Part, import_recipients_response::Part as Answer, import_service_server::ImportService,
    line_service_server::LineService, message_service_server::MessageService, template_service_server::TemplateService,
    *,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::fake::Service;
use crate::cli::csv_chunks::digest;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    fn line(&self, id: &str) -> Line {
        Line {
            line_id: id.to_owned(),
            pool_id: "eu".into(),
            account_id: "acct".into(),
            provider: Provider::Meta as i32,
            ceiling_per_second: 80,
            in_flight_max: 256,
            health: Some(LineHealth {
                state: LineState::Slowed as i32,
                allowed_per_second: 40.0,
                used_per_second: 39.5,
                in_flight: 12,
                ..LineHealth::default()
            }),
            etag: "e1".into(),
            ..Line::default()
        }
    }

    fn pool(&self, id: &str) -> Pool {
        let provider = self.0.lock().provider as i32;
        Pool {
            pool_id: id.to_owned(),
            provider,
            line_ids: vec!["eu-1".into()],
            ceiling_per_second: 80,
            ..Pool::default()
        }
    }
}

#[async_trait]
impl LineService for Service {
    async fn create_line(&self, request: Request<CreateLineRequest>) -> Result<Response<CreateLineResponse>, Status> {
        self.asked("CreateLine", &request)?;
        Ok(Response::new(CreateLineResponse { line: Some(self.line(&request.get_ref().line_id)) }))
    }

    async fn get_line(&self, request: Request<GetLineRequest>) -> Result<Response<GetLineResponse>, Status> {
        self.asked("GetLine", &request)?;
        Ok(Response::new(GetLineResponse { line: Some(self.line(&request.get_ref().line_id)) }))
    }

    async fn list_lines(&self, request: Request<ListLinesRequest>) -> Result<Response<ListLinesResponse>, Status> {
        self.asked("ListLines", &request)?;
        let lines = vec![self.line("eu-1"), self.line("eu-2")];
        Ok(Response::new(ListLinesResponse { lines, ..ListLinesResponse::default() }))
    }

    async fn update_line(&self, request: Request<UpdateLineRequest>) -> Result<Response<UpdateLineResponse>, Status> {
        self.asked("UpdateLine", &request)?;
        Ok(Response::new(UpdateLineResponse { line: Some(self.line(&request.get_ref().line_id)) }))
    }

    async fn hold_line(&self, request: Request<HoldLineRequest>) -> Result<Response<HoldLineResponse>, Status> {
        self.asked("HoldLine", &request)?;
        Ok(Response::new(HoldLineResponse { line: Some(self.line(&request.get_ref().line_id)), in_flight: 12 }))
    }

    async fn release_line(
        &self,
        request: Request<ReleaseLineRequest>,
    ) -> Result<Response<ReleaseLineResponse>, Status> {
        self.asked("ReleaseLine", &request)?;
        Ok(Response::new(ReleaseLineResponse { line: Some(self.line(&request.get_ref().line_id)) }))
    }

    async fn move_line(&self, request: Request<MoveLineRequest>) -> Result<Response<MoveLineResponse>, Status> {
        self.asked("MoveLine", &request)?;
        Ok(Response::new(MoveLineResponse { line: Some(self.line(&request.get_ref().line_id)) }))
    }

    async fn get_pool(&self, request: Request<GetPoolRequest>) -> Result<Response<GetPoolResponse>, Status> {
        self.asked("GetPool", &request)?;
        Ok(Response::new(GetPoolResponse { pool: Some(self.pool(&request.get_ref().pool_id)) }))
    }

    async fn list_pools(&self, request: Request<ListPoolsRequest>) -> Result<Response<ListPoolsResponse>, Status> {
        self.asked("ListPools", &request)?;
        Ok(Response::new(ListPoolsResponse { pools: vec![self.pool("eu")], ..ListPoolsResponse::default() }))
    }

    async fn update_pool(&self, request: Request<UpdatePoolRequest>) -> Result<Response<UpdatePoolResponse>, Status> {
        self.asked("UpdatePool", &request)?;
        Ok(Response::new(UpdatePoolResponse { pool: Some(self.pool(&request.get_ref().pool_id)) }))
    }

    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        self.asked("ListAccounts", &request)?;
        let account = Account { account_id: "acct".into(), providers: vec![Provider::Meta as i32] };
        Ok(Response::new(ListAccountsResponse { accounts: vec![account], ..ListAccountsResponse::default() }))
    }
}

#[async_trait]
impl TemplateService for Service {
    async fn put_template(
        &self,
        request: Request<PutTemplateRequest>,
    ) -> Result<Response<PutTemplateResponse>, Status> {
        self.asked("PutTemplate", &request)?;
        Ok(Response::new(PutTemplateResponse { template: request.into_inner().template }))
    }

    async fn get_template(
        &self,
        request: Request<GetTemplateRequest>,
    ) -> Result<Response<GetTemplateResponse>, Status> {
        self.asked("GetTemplate", &request)?;
        let columns = self.0.lock().template_columns.clone();
        let template_id = request.into_inner().template_id;
        let template =
            Template { template_id, body: "Hello {{1}}".into(), columns, etag: "e7".into(), ..Template::default() };
        Ok(Response::new(GetTemplateResponse { template: Some(template) }))
    }

    async fn list_templates(
        &self,
        request: Request<ListTemplatesRequest>,
    ) -> Result<Response<ListTemplatesResponse>, Status> {
        self.asked("ListTemplates", &request)?;
        Ok(Response::new(ListTemplatesResponse::default()))
    }

    async fn render_template(
        &self,
        request: Request<RenderTemplateRequest>,
    ) -> Result<Response<RenderTemplateResponse>, Status> {
        self.asked("RenderTemplate", &request)?;
        Ok(Response::new(RenderTemplateResponse { text: "Hello Ada".into(), sms_parts: 1 }))
    }
}

impl Service {
    /// Takes a chunk as the contract says: a repeated one is compared, a gap is refused.
    fn chunk(&self, chunk: ImportChunk) -> Result<Option<ImportAck>, Status> {
        let import = &mut self.0.lock().import;
        if import.break_after.is_some_and(|after| import.chunks.len() >= after) {
            import.break_after = None;
            return Err(Status::unavailable("restarting"));
        }
        if chunk.rows.len() > import.chunk_rows_max as usize || digest(&chunk.rows)[..] != chunk.sha256[..] {
            return Err(Status::invalid_argument("a chunk that is too long or whose digest is wrong"));
        }
        import.chunks.push((chunk.row_offset, chunk.rows.len()));
        let from = usize::try_from(chunk.row_offset).expect("small");
        let held = import.rows.len();
        let repeated = from < held;
        if from > held {
            return Err(Status::invalid_argument("a gap"));
        }
        if repeated && import.rows.get(from..from + chunk.rows.len()) != Some(&chunk.rows) {
            return Err(Status::failed_precondition("the offset holds other rows"));
        }
        let mut refused = Vec::new();
        if !repeated {
            for (index, row) in chunk.rows.iter().enumerate() {
                if row.address.is_none() || row.external_id == "bad" {
                    let field = if row.address.is_none() { "phone" } else { "body_params[0]" };
                    let violation = FieldViolation { field: field.into(), description: "is missing".into() };
                    let row = chunk.row_offset + index as u64;
                    let import_id = "list".to_owned();
                    refused.push(RefusedRow { import_id, row, violations: vec![violation], duplicate_of: None });
                }
            }
            import.rows.extend(chunk.rows);
            import.refused.extend(refused.iter().cloned());
        }
        let acked_rows = import.rows.len() as u64;
        let silent = import.stall_at.is_some_and(|row| acked_rows > row);
        let refused_rows = u32::try_from(refused.len()).expect("small");
        Ok((!silent).then_some(ImportAck { acked_rows, stored: 0, refused, repeated, refused_rows }))
    }
}

#[async_trait]
impl ImportService for Service {
    type ImportRecipientsStream = Answers<ImportRecipientsResponse>;

    async fn import_recipients(
        &self,
        request: Request<Streaming<ImportRecipientsRequest>>,
    ) -> Result<Response<Self::ImportRecipientsStream>, Status> {
        self.asked("ImportRecipients", &Request::new("a stream"))?;
        let mut requests = request.into_inner();
        let service = self.clone();
        let (answers, stream) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let answer = match request.part {
                    Some(Part::Header(_)) => {
                        let import = &service.0.lock().import;
                        let acked_rows = import.rows.len() as u64;
                        Ok(Some(Answer::Ready(ImportReady { acked_rows, chunk_rows_max: import.chunk_rows_max })))
                    }
                    Some(Part::Chunk(chunk)) => service.chunk(chunk).map(|ack| ack.map(Answer::Ack)),
                    None => Err(Status::invalid_argument("an empty request")),
                };
                let failed = answer.is_err();
                let answer = match answer {
                    Ok(None) => {
                        // A server that hangs: it reads no further, and nothing comes until the client has gone.
                        answers.closed().await;
                        break;
                    }
                    Ok(part) => Ok(ImportRecipientsResponse { part }),
                    Err(status) => Err(status),
                };
                if answers.send(answer).await.is_err() || failed {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(stream))))
    }

    async fn get_import(&self, request: Request<GetImportRequest>) -> Result<Response<GetImportResponse>, Status> {
        self.asked("GetImport", &request)?;
        let request = request.into_inner();
        let import = &self.0.lock().import;
        let (rows, refused_rows) = (import.rows.len() as u64, import.refused.len() as u64);
        let import = Some(Import {
            campaign_id: request.campaign_id,
            import_id: request.import_id,
            acked_rows: rows,
            stored_rows: rows - refused_rows,
            refused_rows,
            ..Import::default()
        });
        Ok(Response::new(GetImportResponse { import }))
    }

    async fn list_imports(
        &self,
        request: Request<ListImportsRequest>,
    ) -> Result<Response<ListImportsResponse>, Status> {
        self.asked("ListImports", &request)?;
        let import =
            Import { import_id: "list".into(), acked_rows: 3, stored_rows: 2, refused_rows: 1, ..Import::default() };
        Ok(Response::new(ListImportsResponse { imports: vec![import], ..ListImportsResponse::default() }))
    }

    async fn list_refused_rows(
        &self,
        request: Request<ListRefusedRowsRequest>,
    ) -> Result<Response<ListRefusedRowsResponse>, Status> {
        self.asked("ListRefusedRows", &request)?;
        // Pages of two, so that reports meet more than one.
        const PAGE: usize = 2;
        let from: usize = request.get_ref().page_token.parse().unwrap_or(0);
        let refused = &self.0.lock().import.refused;
        let to = (from + PAGE).min(refused.len());
        let next_page_token = if to < refused.len() { to.to_string() } else { String::new() };
        Ok(Response::new(ListRefusedRowsResponse { rows: refused[from..to].to_vec(), next_page_token }))
    }
}

#[async_trait]
impl MessageService for Service {
    async fn get_message(&self, request: Request<GetMessageRequest>) -> Result<Response<GetMessageResponse>, Status> {
        self.asked("GetMessage", &request)?;
        let message = self.0.lock().messages.first().cloned();
        let message = message.ok_or_else(|| Status::not_found("there is no such message"))?;
        Ok(Response::new(GetMessageResponse { message: Some(message) }))
    }

    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        self.asked("ListMessages", &request)?;
        let messages = self.0.lock().messages.clone();
        Ok(Response::new(ListMessagesResponse { messages, ..ListMessagesResponse::default() }))
    }

    type ExportMessagesStream = Answers<ExportMessagesResponse>;

    async fn export_messages(
        &self,
        request: Request<ExportMessagesRequest>,
    ) -> Result<Response<Self::ExportMessagesStream>, Status> {
        self.asked("ExportMessages", &request)?;
        let batches = self.0.lock().exports.pop_front().unwrap_or_default();
        Ok(Response::new(Box::pin(tokio_stream::iter(batches))))
    }

    async fn list_in_doubt(
        &self,
        request: Request<ListInDoubtRequest>,
    ) -> Result<Response<ListInDoubtResponse>, Status> {
        self.asked("ListInDoubt", &request)?;
        let messages = self.0.lock().messages.clone();
        Ok(Response::new(ListInDoubtResponse { messages, ..ListInDoubtResponse::default() }))
    }

    async fn resolve_messages(
        &self,
        request: Request<ResolveMessagesRequest>,
    ) -> Result<Response<ResolveMessagesResponse>, Status> {
        self.asked("ResolveMessages", &request)?;
        let left =
            UnresolvedMessage { seq: 9, status: MessageStatus::Sent as i32, reason: "it is not in doubt".into() };
        let unresolved = match request.into_inner().by {
            Some(resolve_messages_request::By::Seqs(seqs)) if seqs.seqs.contains(&9) => vec![left],
            _ => Vec::new(),
        };
        Ok(Response::new(ResolveMessagesResponse { resolved: 2, unresolved, as_of: None }))
    }

    async fn list_orphans(
        &self,
        request: Request<ListOrphansRequest>,
    ) -> Result<Response<ListOrphansResponse>, Status> {
        self.asked("ListOrphans", &request)?;
        let orphan = Orphan { account_id: "acct".into(), stage: Stage::Delivered as i32, ..Orphan::default() };
        Ok(Response::new(ListOrphansResponse { orphans: vec![orphan], ..ListOrphansResponse::default() }))
    }
}
