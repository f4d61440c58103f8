//! Errors of the transport in the guest's words.

use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p3::bindings::http::types::{
    DnsErrorPayload, ErrorCode, FieldSizePayload, TlsAlertReceivedPayload,
};

/// The code of an error. Those that only hooks of an embedder make (hyper's own, of I/O) are told by their text.
pub(super) fn code(error: Error) -> ErrorCode {
    let size = |field_name, field_size| FieldSizePayload { field_name, field_size };
    match error {
        Error::DnsTimeout => ErrorCode::DnsTimeout,
        Error::DnsError { rcode, info_code } => ErrorCode::DnsError(DnsErrorPayload { rcode, info_code }),
        Error::DestinationNotFound => ErrorCode::DestinationNotFound,
        Error::DestinationUnavailable => ErrorCode::DestinationUnavailable,
        Error::DestinationIpProhibited => ErrorCode::DestinationIpProhibited,
        Error::DestinationIpUnroutable => ErrorCode::DestinationIpUnroutable,
        Error::ConnectionRefused => ErrorCode::ConnectionRefused,
        Error::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        Error::ConnectionTimeout => ErrorCode::ConnectionTimeout,
        Error::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        Error::ConnectionWriteTimeout => ErrorCode::ConnectionWriteTimeout,
        Error::ConnectionLimitReached => ErrorCode::ConnectionLimitReached,
        Error::TlsProtocolError => ErrorCode::TlsProtocolError,
        Error::TlsCertificateError => ErrorCode::TlsCertificateError,
        Error::TlsAlertReceived { alert_id, alert_message } => {
            ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload { alert_id, alert_message })
        }
        Error::HttpRequestDenied => ErrorCode::HttpRequestDenied,
        Error::HttpRequestLengthRequired => ErrorCode::HttpRequestLengthRequired,
        Error::HttpRequestBodySize(bytes) => ErrorCode::HttpRequestBodySize(bytes),
        Error::HttpRequestMethodInvalid => ErrorCode::HttpRequestMethodInvalid,
        Error::HttpRequestUriInvalid => ErrorCode::HttpRequestUriInvalid,
        Error::HttpRequestUriTooLong => ErrorCode::HttpRequestUriTooLong,
        Error::HttpRequestHeaderSectionSize(bytes) => ErrorCode::HttpRequestHeaderSectionSize(bytes),
        Error::HttpRequestHeaderSize { field_name, field_size } => {
            ErrorCode::HttpRequestHeaderSize(Some(size(field_name, field_size)))
        }
        Error::HttpRequestTrailerSectionSize(bytes) => ErrorCode::HttpRequestTrailerSectionSize(bytes),
        Error::HttpRequestTrailerSize { field_name, field_size } => {
            ErrorCode::HttpRequestTrailerSize(size(field_name, field_size))
        }
        Error::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        Error::HttpResponseHeaderSectionSize(bytes) => ErrorCode::HttpResponseHeaderSectionSize(bytes),
        Error::HttpResponseHeaderSize { field_name, field_size } => {
            ErrorCode::HttpResponseHeaderSize(size(field_name, field_size))
        }
        Error::HttpResponseBodySize(bytes) => ErrorCode::HttpResponseBodySize(bytes),
        Error::HttpResponseTrailerSectionSize(bytes) => ErrorCode::HttpResponseTrailerSectionSize(bytes),
        Error::HttpResponseTrailerSize { field_name, field_size } => {
            ErrorCode::HttpResponseTrailerSize(size(field_name, field_size))
        }
        Error::HttpResponseTransferCoding(coding) => ErrorCode::HttpResponseTransferCoding(coding),
        Error::HttpResponseContentCoding(coding) => ErrorCode::HttpResponseContentCoding(coding),
        Error::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        Error::HttpUpgradeFailed => ErrorCode::HttpUpgradeFailed,
        Error::HttpProtocolError => ErrorCode::HttpProtocolError,
        Error::LoopDetected => ErrorCode::LoopDetected,
        Error::ConfigurationError => ErrorCode::ConfigurationError,
        Error::InternalError(text) => ErrorCode::InternalError(text),
        other => ErrorCode::InternalError(Some(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_keeps_its_name() {
        for (error, name) in [
            (Error::ConnectionRefused, "ConnectionRefused"),
            (Error::HttpResponseTimeout, "HttpResponseTimeout"),
            (Error::HttpRequestDenied, "HttpRequestDenied"),
            (Error::DestinationIpProhibited, "DestinationIpProhibited"),
            (Error::TlsCertificateError, "TlsCertificateError"),
            (Error::Connect(std::io::Error::other("no route")), "no route"),
        ] {
            let told = format!("{:?}", code(error));
            assert!(told.contains(name), "{told}");
        }
    }
}
