//! Templates.

use sluice_engine::control::Error;
use sluice_proto::v1;
use sluice_proto::v1::template_service_server::TemplateService;
use tonic::{Request, Response, Status};

use super::{Front, convert};

#[tonic::async_trait]
impl TemplateService for Front {
    async fn put_template(
        &self,
        request: Request<v1::PutTemplateRequest>,
    ) -> Result<Response<v1::PutTemplateResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let (template, expected) = convert::put_template(request.template)?;
            let view = control.put_template(&caller.tenant, &request.request_id, template, expected).await?;
            Ok(v1::PutTemplateResponse { template: Some(convert::template(view)) })
        })
        .await
    }

    async fn get_template(
        &self,
        request: Request<v1::GetTemplateRequest>,
    ) -> Result<Response<v1::GetTemplateResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let view = control.template(&caller.tenant, &request.template_id).await?;
            Ok(v1::GetTemplateResponse { template: Some(convert::template(view)) })
        })
        .await
    }

    async fn list_templates(
        &self,
        request: Request<v1::ListTemplatesRequest>,
    ) -> Result<Response<v1::ListTemplatesResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let page = convert::page(request.page_size, request.page_token);
            let page = control.list_templates(&caller.tenant, &page).await?;
            Ok(v1::ListTemplatesResponse {
                templates: page.items.into_iter().map(convert::template).collect(),
                next_page_token: page.next_token,
            })
        })
        .await
    }

    async fn render_template(
        &self,
        request: Request<v1::RenderTemplateRequest>,
    ) -> Result<Response<v1::RenderTemplateResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let kind = convert::kind("provider", request.provider)?
                .ok_or_else(|| Error::invalid("provider", "is required: a text depends on it"))?;
            let parameters = convert::parameters(request.parameters);
            let preview = control.render(&caller.tenant, &request.template_id, kind, &parameters).await?;
            Ok(v1::RenderTemplateResponse { text: preview.text(), sms_parts: preview.sms.map_or(0, |size| size.parts) })
        })
        .await
    }
}
