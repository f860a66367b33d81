package registry

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Page is an answer that another page may follow.
type Page interface {
	proto.Message
	GetNextPageToken() string
}

// Question is a request that can ask for the page behind another one.
type Question interface {
	proto.Message
	GetPageToken() string
}

// Pages yields all pages of a listing, which are all of one revision, each asked for when it is needed.
// It works with every method that has pages, and ends with the error of one that failed:
//
//	services := &registryv1.ListEntitiesRequest{Type: []string{"service"}}
//	for page, err := range registry.Pages(ctx, client.Entities.ListEntities, services) {
//
// Who takes more than a minute for a page may find the next one gone, with the reason TOKEN_EXPIRED.
func Pages[Q Question, A Page](
	ctx context.Context, method func(context.Context, Q, ...grpc.CallOption) (A, error), request Q,
) iter.Seq2[A, error] {
	return func(yield func(A, error) bool) {
		for asked := request; ; {
			page, err := method(ctx, asked)
			if err != nil {
				yield(page, err)
				return
			}
			token := page.GetNextPageToken()
			if !yield(page, nil) || token == "" {
				return
			}
			asked = proto.CloneOf(request)
			message := asked.ProtoReflect()
			field := message.Descriptor().Fields().ByName("page_token")
			message.Set(field, protoreflect.ValueOfString(token))
		}
	}
}
