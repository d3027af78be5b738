//! Which call needs which scope. A call that is not in the table is refused, so that a new one cannot be forgotten.

use super::principal::Scope;

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: health checks and the description of the contract, which hold nothing of any tenant.
    Public,
    /// A token with this scope.
    Needs(Scope),
}

const READ: Access = Access::Needs(Scope::Read);
const SEND: Access = Access::Needs(Scope::Send);
const ADMIN: Access = Access::Needs(Scope::Admin);

/// Every call of the contract.
const CALLS: &[(&str, Access)] = &[
    ("/sluice.v1.AdminService/Backup", ADMIN),
    ("/sluice.v1.AdminService/GetNodes", ADMIN),
    ("/sluice.v1.AdminService/GetServerInfo", READ),
    ("/sluice.v1.CampaignService/BatchCancelCampaigns", SEND),
    ("/sluice.v1.CampaignService/BatchPauseCampaigns", SEND),
    ("/sluice.v1.CampaignService/BatchResumeCampaigns", SEND),
    ("/sluice.v1.CampaignService/BatchStartCampaigns", SEND),
    ("/sluice.v1.CampaignService/CancelCampaign", SEND),
    ("/sluice.v1.CampaignService/CloneCampaign", SEND),
    ("/sluice.v1.CampaignService/CreateCampaign", SEND),
    ("/sluice.v1.CampaignService/DeleteCampaign", SEND),
    ("/sluice.v1.CampaignService/GetCampaign", READ),
    ("/sluice.v1.CampaignService/GetTenantTotals", READ),
    ("/sluice.v1.CampaignService/ListCampaigns", READ),
    ("/sluice.v1.CampaignService/PauseCampaign", SEND),
    ("/sluice.v1.CampaignService/RecountCampaign", READ),
    ("/sluice.v1.CampaignService/RecountTenant", READ),
    ("/sluice.v1.CampaignService/ResumeCampaign", SEND),
    ("/sluice.v1.CampaignService/SealCampaign", SEND),
    ("/sluice.v1.CampaignService/StartCampaign", SEND),
    ("/sluice.v1.CampaignService/UpdateCampaign", SEND),
    ("/sluice.v1.CampaignService/WatchCampaign", READ),
    ("/sluice.v1.ImportService/GetImport", READ),
    ("/sluice.v1.ImportService/ImportRecipients", SEND),
    ("/sluice.v1.ImportService/ListImports", READ),
    ("/sluice.v1.ImportService/ListRefusedRows", READ),
    ("/sluice.v1.LineService/CreateLine", ADMIN),
    ("/sluice.v1.LineService/GetLine", READ),
    ("/sluice.v1.LineService/GetPool", READ),
    ("/sluice.v1.LineService/HoldLine", ADMIN),
    ("/sluice.v1.LineService/ListAccounts", READ),
    ("/sluice.v1.LineService/ListLines", READ),
    ("/sluice.v1.LineService/ListPools", READ),
    ("/sluice.v1.LineService/MoveLine", ADMIN),
    ("/sluice.v1.LineService/ReleaseLine", ADMIN),
    ("/sluice.v1.LineService/UpdateLine", ADMIN),
    ("/sluice.v1.LineService/UpdatePool", ADMIN),
    ("/sluice.v1.MessageService/ExportMessages", READ),
    ("/sluice.v1.MessageService/GetMessage", READ),
    ("/sluice.v1.MessageService/ListInDoubt", READ),
    ("/sluice.v1.MessageService/ListMessages", READ),
    ("/sluice.v1.MessageService/ListOrphans", ADMIN),
    ("/sluice.v1.MessageService/ResolveMessages", SEND),
    ("/sluice.v1.TemplateService/GetTemplate", READ),
    ("/sluice.v1.TemplateService/ListTemplates", READ),
    ("/sluice.v1.TemplateService/PutTemplate", SEND),
    ("/sluice.v1.TemplateService/RenderTemplate", READ),
];

/// Services that need no token. Reflection and health hold nothing of any tenant.
const PUBLIC_SERVICES: &[&str] =
    &["/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/"];

/// The path of every call of the contract.
pub fn calls() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|(call, _)| *call)
}

/// What the call with this path needs; `None`: there is no such call.
pub fn access(path: &str) -> Option<Access> {
    if PUBLIC_SERVICES.iter().any(|service| path.starts_with(service)) {
        return Some(Access::Public);
    }
    // The table is sorted (asserted below).
    CALLS.binary_search_by(|(call, _)| (*call).cmp(path)).ok().map(|at| CALLS[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use std::collections::BTreeSet;

    /// Every call of the contract, with the comment that stands above it.
    fn documented() -> Vec<(String, String)> {
        let set = FileDescriptorSet::decode(sluice_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut calls = Vec::new();
        for file in &set.file {
            for (s, service) in file.service.iter().enumerate() {
                for (m, method) in service.method.iter().enumerate() {
                    let place = [6, s as i32, 2, m as i32]; // FileDescriptorProto.service, ServiceDescriptorProto.method
                    let comment = file
                        .source_code_info
                        .iter()
                        .flat_map(|info| &info.location)
                        .find(|location| location.path == place)
                        .map(|location| location.leading_comments().to_owned())
                        .unwrap_or_default();
                    calls.push((format!("/{}.{}/{}", file.package(), service.name(), method.name()), comment));
                }
            }
        }
        calls
    }

    #[test]
    fn the_table_holds_exactly_the_calls_of_the_contract() {
        assert!(CALLS.is_sorted_by_key(|(call, _)| *call));
        let table: BTreeSet<&str> = CALLS.iter().map(|(call, _)| *call).collect();
        let calls = documented();
        let contract: BTreeSet<&str> = calls.iter().map(|(call, _)| call.as_str()).collect();
        assert_eq!(table, contract);
        for (call, _) in &calls {
            assert!(access(call).is_some(), "{call}");
        }
    }

    #[test]
    fn the_contract_says_the_scope_of_each_call_and_says_it_truly() {
        for (call, comment) in documented() {
            let Some(Access::Needs(scope)) = access(&call) else { panic!("{call} needs no scope") };
            assert!(
                comment.trim_end().ends_with(&format!("Scope: {scope}."))
                    || comment.contains(&format!("Scope: {scope}.\n\n")),
                "{call} needs {scope}, its comment says otherwise: {comment}"
            );
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_no_call() {
        for path in
            ["/", "", "/sluice.v1.CampaignService/", "/sluice.v1.CampaignService/Nope", "/grpc.health.v1.Healthy/Check"]
        {
            assert_eq!(access(path), None, "{path}");
        }
        assert_eq!(access("/grpc.health.v1.Health/Check"), Some(Access::Public));
    }
}
