package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

// calls is what all calls of a client have in common.
type calls struct {
	timeout  time.Duration
	retries  bool
	metadata metadata.MD
}

func (c calls) unary(
	ctx context.Context, method string, request, answer any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	if message, ok := request.(proto.Message); ok && c.retries {
		request = keyed(message)
	}
	return asError(invoke(c.outgoing(ctx), method, request, answer, conn, opts...))
}

// bounded gives a call that has no deadline the client's.
func (c calls) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, bounded := ctx.Deadline(); bounded || c.timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.timeout)
}

func (c calls) stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := open(c.outgoing(ctx), desc, conn, method, opts...)
	if err != nil {
		return nil, asError(err)
	}
	return translated{stream}, nil
}

func (c calls) outgoing(ctx context.Context) context.Context {
	if len(c.metadata) == 0 {
		return ctx
	}
	given, _ := metadata.FromOutgoingContext(ctx)
	return metadata.NewOutgoingContext(ctx, metadata.Join(c.metadata, given))
}

// translated is a stream whose errors are those of this package.
type translated struct{ grpc.ClientStream }

func (t translated) Header() (metadata.MD, error) {
	header, err := t.ClientStream.Header()
	return header, asError(err)
}

func (t translated) SendMsg(message any) error { return asError(t.ClientStream.SendMsg(message)) }

func (t translated) RecvMsg(message any) error { return asError(t.ClientStream.RecvMsg(message)) }

// keyed is a write with an idempotency key, so that a repeated call is not a second write. Anything
// else, and a write that has a key or writes nothing, is as it was.
func keyed(request proto.Message) proto.Message {
	message := request.ProtoReflect()
	fields := message.Descriptor().Fields()
	key, dry := fields.ByName("idempotency_key"), fields.ByName("dry_run")
	if key == nil || message.Get(key).String() != "" || dry != nil && message.Get(dry).Bool() {
		return request
	}
	// The caller's message is not touched; its parts are shared.
	copied := message.New()
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		copied.Set(field, value)
		return true
	})
	copied.SetUnknown(message.GetUnknown())
	copied.Set(key, protoreflect.ValueOfString(rand.Text()))
	return copied.Interface()
}

// repeatable names the methods that gRPC may repeat: those that read or carry a key. A stream is
// repeated until its first message; those that watch or load go on in their own way.
func repeatable() []methodName {
	var names []methodName
	pkg := registryv1.File_ose_registry_v1_entity_proto.Package()
	protoregistry.GlobalFiles.RangeFilesByPackage(pkg, func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				watches := strings.HasPrefix(string(method.Name()), "Watch")
				if !method.IsStreamingClient() && !watches {
					names = append(names, methodName{string(service.FullName()), string(method.Name())})
				}
			}
		}
		return true
	})
	return names
}

func seconds(length time.Duration) string { return fmt.Sprintf("%.9fs", length.Seconds()) }

// asError is what gRPC's error is to callers. The end of a stream stays what it is.
func asError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if known := (*Error)(nil); errors.As(err, &known) {
		return err
	}
	return fromStatus(err)
}

func cloned(facts map[string]string) map[string]string {
	if facts == nil {
		return map[string]string{}
	}
	return maps.Clone(facts)
}
