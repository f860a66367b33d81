package registry

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

// Domain is the domain of the registry's own reasons.
const Domain = "registry.ose"

// Error is what a call failed with.
//
//	var failed *registry.Error
//	if errors.As(err, &failed) && failed.Reason == registryv1.ErrorReason_ERROR_REASON_ENTITY_NOT_FOUND {
//		fmt.Println(failed.Metadata["id"])
//	}
//
// errors.Is finds context.Canceled and context.DeadlineExceeded in those that came of the context, and
// gRPC's status.FromError and status.Code work on it too.
type Error struct {
	// Code says what kind of failure it is.
	Code codes.Code
	// Message says what happened, for people.
	Message string
	// Reason says exactly what happened. It is unspecified if the registry did not say, or said what
	// this client is too old to know; then see ReasonText.
	Reason registryv1.ErrorReason
	// ReasonText is the reason as it was sent, without the prefix ERROR_REASON_; empty if there was
	// none of the registry's own.
	ReasonText string
	// Domain is where the reason comes from: [Domain], if it is the registry's own.
	Domain string
	// Metadata has the facts that belong to the reason; the reason's comment names them.
	Metadata map[string]string
	// FieldViolations has the malformed fields of the request.
	FieldViolations []FieldViolation

	status *status.Status
}

// FieldViolation is a malformed field of a request.
type FieldViolation struct {
	// Field is its path, such as entity.labels.tier.
	Field string
	// Description says what was expected of it.
	Description string
}

// Error says the reason, what happened, and each malformed field in a line of its own.
func (e *Error) Error() string {
	var text strings.Builder
	label := e.ReasonText
	if label == "" {
		label = e.Code.String()
	}
	fmt.Fprintf(&text, "%s: %s", label, e.Message)
	for _, violation := range e.FieldViolations {
		fmt.Fprintf(&text, "\n  %s: %s", violation.Field, violation.Description)
	}
	return text.String()
}

// GRPCStatus is the error as it came over the wire.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// Is makes errors.Is find the context's errors.
func (e *Error) Is(target error) bool {
	switch target {
	case context.Canceled:
		return e.Code == codes.Canceled
	case context.DeadlineExceeded:
		return e.Code == codes.DeadlineExceeded
	}
	return false
}

// fromStatus reads all that the server said.
func fromStatus(err error) *Error {
	said := status.Convert(err)
	made := &Error{Code: said.Code(), Message: said.Message(), Metadata: cloned(nil), status: said}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			made.Domain = detail.GetDomain()
			if made.Domain == Domain {
				made.ReasonText = detail.GetReason()
				made.Metadata = cloned(detail.GetMetadata())
				made.Reason = registryv1.ErrorReason(
					registryv1.ErrorReason_value["ERROR_REASON_"+detail.GetReason()],
				)
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				made.FieldViolations = append(made.FieldViolations, FieldViolation{
					Field: violation.GetField(), Description: violation.GetDescription(),
				})
			}
		}
	}
	return made
}

// unavailable is an error of this side that a new stream may not have.
func unavailable(message string) *Error {
	return fromStatus(status.Error(codes.Unavailable, message))
}

// isBroken is whether a stream ended for a reason that a new one may not have: UNAVAILABLE, or what
// HTTP/2 makes of a stream that is reset, which is not the registry's.
func (e *Error) isBroken() bool {
	reset := e.Code == codes.Internal || e.Code == codes.Canceled
	return e.Code == codes.Unavailable || reset && e.Domain == ""
}
