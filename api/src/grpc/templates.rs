//! Templates.

use sluice_engine::control::Error;
use sluice_proto::v1;
use sluice_proto::v1::template_service_server::TemplateService;
use tonic::{Request, Response, Status};

use super::{Front, convert, pages};

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
        let bytes_max = self.answer_bytes_max;
        self.call(request, move |control, caller, request| async move {
            let (control, tenant, asked) = (&control, &caller.tenant, &request);
            let page = pages::fitting(bytes_max, request.page_size, |size| async move {
                let page = convert::page(size, asked.page_token.clone());
                Ok(control.list_templates(tenant, &page).await?.map(convert::template))
            });
            let page = page.await?;
            Ok(v1::ListTemplatesResponse { templates: page.items, next_page_token: page.next_token })
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
