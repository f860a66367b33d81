package registry

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

// What a field is in within a mutation, and in the request of a single call.
var prefixes = map[string]string{
	"create_entity.":       "entity.",
	"create_relationship.": "relationship.",
	"update_entity.":       "",
	"update_relationship.": "",
}

// batchGet reads as a single read does; both requests have the same fields but for the ids.
func batchGet(read *registryv1.GetEntityRequest) *registryv1.BatchGetEntitiesRequest {
	made := &registryv1.BatchGetEntitiesRequest{}
	fields := made.ProtoReflect().Descriptor().Fields()
	read.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Name() != "id" {
			made.ProtoReflect().Set(fields.ByName(field.Name()), value)
		}
		return true
	})
	return made
}

// missing is the error of a read of what is not there.
func missing(id string, revision int64) error {
	said := status.Newf(codes.NotFound, "no entity '%s'", id)
	detailed, err := said.WithDetails(&errdetails.ErrorInfo{
		Reason: "ENTITY_NOT_FOUND", Domain: Domain,
		Metadata: map[string]string{"id": id, "revision": fmt.Sprint(revision)},
	})
	if err != nil {
		return said.Err()
	}
	return detailed.Err()
}

// mutationOf is what a write does that may be joined: one without a key of its own that is no rehearsal.
// One that lacks what it is to write is left to be refused as it is.
func mutationOf(request any) *registryv1.Mutation {
	own, is := request.(interface {
		GetIdempotencyKey() string
		GetDryRun() bool
	})
	if !is || own.GetIdempotencyKey() != "" || own.GetDryRun() {
		return nil
	}
	switch request := request.(type) {
	case *registryv1.CreateEntityRequest:
		if entity := request.GetEntity(); entity != nil {
			return &registryv1.Mutation{Operation: &registryv1.Mutation_CreateEntity{CreateEntity: entity}}
		}
	case *registryv1.CreateRelationshipRequest:
		if made := request.GetRelationship(); made != nil {
			return &registryv1.Mutation{
				Operation: &registryv1.Mutation_CreateRelationship{CreateRelationship: made},
			}
		}
	case *registryv1.UpdateEntityRequest:
		if entity := request.GetEntity(); entity != nil {
			return &registryv1.Mutation{Operation: &registryv1.Mutation_UpdateEntity_{
				UpdateEntity: &registryv1.Mutation_UpdateEntity{
					Entity: entity, UpdateMask: request.GetUpdateMask(),
					ExpectedRevision: request.GetExpectedRevision(),
				},
			}}
		}
	case *registryv1.UpdateRelationshipRequest:
		if changed := request.GetRelationship(); changed != nil {
			return &registryv1.Mutation{Operation: &registryv1.Mutation_UpdateRelationship_{
				UpdateRelationship: &registryv1.Mutation_UpdateRelationship{
					Relationship: changed, UpdateMask: request.GetUpdateMask(),
					ExpectedRevision: request.GetExpectedRevision(),
				},
			}}
		}
	}
	return nil
}

// asOwn is what a mutation failed with as a call of its own says it: with the names of its own fields.
func asOwn(said *rpcstatus.Status) *rpcstatus.Status {
	for number, detail := range said.GetDetails() {
		message, err := detail.UnmarshalNew()
		if err != nil {
			continue // This client is too old to know its kind.
		}
		switch message := message.(type) {
		case *errdetails.BadRequest:
			for _, violation := range message.GetFieldViolations() {
				violation.Field = ownField(violation.GetField())
			}
		case *errdetails.ErrorInfo:
			if field, names := message.GetMetadata()["field"]; names {
				message.Metadata["field"] = ownField(field)
				said.Message = strings.Replace(said.Message, field+": ", ownField(field)+": ", 1)
			}
		}
		if renamed, err := anypb.New(message); err == nil {
			said.Details[number] = renamed
		}
	}
	return said
}

func ownField(field string) string {
	for prefix, own := range prefixes {
		if rest, has := strings.CutPrefix(field, prefix); has {
			return own + rest
		}
	}
	return field
}
