package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"nexuspro.io/registry"
)

// Where the stories are served: a JSON object of the files, each with the address of a new server.
const storiesVariable = "REGISTRY_STORIES"

// What depends on the store, the build or the size of encodings.
var leftOut = map[string]bool{
	"epoch": true, "token_epoch": true, "store": true, "store_bytes": true, "record_bytes": true,
	"server_version": true, "request_id": true, "memory_bytes": true, "data": true, "remaining": true,
	"manifest_digest": true,
}

var (
	named = regexp.MustCompile(`^<(time|id) \d+>$`)
	uuid  = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
)

// TestStories plays every story of the conformance suite through this client: each step is answered as the
// file says, which is what the Python client is answered.
func TestStories(t *testing.T) {
	var served map[string]string
	if text := os.Getenv(storiesVariable); text == "" {
		t.Skipf("needs servers, in %s: run tests/clients/test_languages.py", storiesVariable)
	} else if err := json.Unmarshal([]byte(text), &served); err != nil {
		t.Fatal(err)
	}
	for file, target := range served {
		t.Run(filepath.Base(file), func(t *testing.T) {
			play(t, file, target)
		})
	}
}

func play(t *testing.T, file, target string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var told struct {
		Steps []map[string]any `yaml:"steps"`
	}
	if err := yaml.Unmarshal(text, &told); err != nil {
		t.Fatal(err)
	}
	client, err := registry.Dial(target)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	run := &story{
		client: client, kept: map[string]string{}, names: map[string]string{}, values: map[string]string{},
		streams: map[string]grpc.ClientStream{}, outputs: map[string]protoreflect.MessageType{},
	}
	for number, step := range told.Steps {
		run.among, _ = step["among"].(bool)
		found, err := run.step(ctx, step)
		if err != nil {
			t.Fatalf("step %d: %v", number, err)
		}
		for _, part := range []string{"answer", "answers", "error"} {
			if err := run.same(part, plain(step[part]), plain(found[part])); err != nil {
				shown, _ := json.MarshalIndent(plain(found[part]), "", "  ")
				t.Fatalf("step %d (%v): %v\n%s", number, step["why"], err, shown)
			}
		}
	}
}

type story struct {
	client  *registry.Client
	kept    map[string]string
	names   map[string]string // What each name in the file stands for,
	values  map[string]string // and the other way round.
	streams map[string]grpc.ClientStream
	outputs map[string]protoreflect.MessageType
	among   bool // The answer tells of more than the story's own, which is among it.
}

func (s *story) step(ctx context.Context, step map[string]any) (map[string]any, error) {
	var found map[string]any
	var err error
	if name, reads := step["read"].(string); reads {
		var answers []any
		answers, err = s.read(ctx, name, step)
		found = map[string]any{"answers": answers}
	} else {
		found, err = s.call(ctx, step)
	}
	var failed *registry.Error
	if !errors.As(err, &failed) {
		return found, err
	}
	told := map[string]any{"code": code.Code(failed.Code).String(), "reason": failed.ReasonText}
	if len(failed.Metadata) > 0 {
		told["metadata"] = failed.Metadata
	}
	if len(failed.FieldViolations) > 0 {
		var fields []string
		for _, violation := range failed.FieldViolations {
			fields = append(fields, violation.Field)
		}
		told["fields"] = fields
	}
	return map[string]any{"error": told}, nil
}

func (s *story) call(ctx context.Context, step map[string]any) (map[string]any, error) {
	method, err := find(step["call"].(string))
	if err != nil {
		return nil, err
	}
	forms, many := step["requests"].([]any)
	if !many {
		forms = []any{step["request"]}
	}
	input, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
	if err != nil {
		return nil, err
	}
	output, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
	if err != nil {
		return nil, err
	}
	var requests []proto.Message
	for _, form := range forms {
		request := input.New().Interface()
		if form != nil {
			text, err := json.Marshal(plain(s.filled(form)))
			if err != nil {
				return nil, err
			}
			if err := protojson.Unmarshal(text, request); err != nil {
				return nil, fmt.Errorf("the request: %w", err)
			}
		}
		requests = append(requests, request)
	}
	path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	if !method.IsStreamingServer() {
		answer := output.New().Interface()
		if err := s.client.Conn().Invoke(ctx, path, requests[0], answer); err != nil {
			return nil, err
		}
		told := form(answer)
		keep, _ := step["keep"].(map[string]any)
		for variable, field := range keep {
			s.kept[variable] = fmt.Sprint(at(told, strings.Split(field.(string), ".")))
		}
		return map[string]any{"answer": told}, nil
	}
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: method.IsStreamingClient()}
	stream, err := s.client.Conn().NewStream(ctx, desc, path)
	if err != nil {
		return nil, err
	}
	for _, request := range requests {
		if err := stream.SendMsg(request); err != nil {
			return nil, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	if name, open := step["open"].(string); open {
		s.streams[name], s.outputs[name] = stream, output
		return nil, nil
	}
	var answers []any
	for {
		answer := output.New().Interface()
		if err := stream.RecvMsg(answer); errors.Is(err, io.EOF) {
			return map[string]any{"answers": answers}, nil
		} else if err != nil {
			return nil, err
		}
		answers = append(answers, form(answer))
	}
}

func (s *story) read(ctx context.Context, name string, step map[string]any) ([]any, error) {
	part, wanted := "", -1
	for _, one := range []string{"events", "changes"} {
		if count, counts := step[one].(int); counts {
			part, wanted = one, count
		}
	}
	var found []any
	for wanted < 0 || len(found) < wanted {
		answer := s.outputs[name].New().Interface()
		if err := s.streams[name].RecvMsg(answer); err != nil {
			return nil, err
		}
		told := form(answer)
		if part == "" {
			found = append(found, told)
		} else if parts, has := told[part].([]any); has {
			// How many revisions come in one message depends on the moment.
			found = append(found, parts...)
		}
		if mark, has := told["mark"]; has && mark == step["until"] {
			break
		}
	}
	return found, nil
}

// filled is a request with what was kept in the place of $name.
func (s *story) filled(value any) any {
	switch value := value.(type) {
	case map[string]any:
		made := map[string]any{}
		for key, inner := range value {
			made[key] = s.filled(inner)
		}
		return made
	case []any:
		made := []any{}
		for _, inner := range value {
			made = append(made, s.filled(inner))
		}
		return made
	case string:
		if strings.HasPrefix(value, "$") {
			return s.kept[value[1:]]
		}
	}
	return value
}

// same is whether what was found is what is told. Times, made ids and tokens have names in the files:
// equal ones have equal names, and others have others.
func (s *story) same(path string, told, found any) error {
	differs := fmt.Errorf("%s: told %v, found %v", path, told, found)
	switch told := told.(type) {
	case map[string]any:
		found, is := found.(map[string]any)
		if !is {
			return differs
		}
		rest := map[string]any{}
		for key, inner := range found {
			if !leftOut[key] {
				rest[key] = inner
			}
		}
		for key, inner := range told {
			actual := key
			if value, known := s.names[key]; known {
				actual = value
			}
			if _, has := rest[actual]; !has {
				return fmt.Errorf("%s: lacks %s", path, key)
			}
			if err := s.same(path+"."+key, inner, rest[actual]); err != nil {
				return err
			}
			delete(rest, actual)
		}
		if len(rest) > 0 && !s.among {
			return fmt.Errorf("%s: has %v besides", path, rest)
		}
		return nil
	case []any:
		found, is := found.([]any)
		if is && s.among {
			return s.contains(path, told, found)
		}
		if !is || len(found) != len(told) {
			return differs
		}
		for i := range told {
			if err := s.same(path+"."+strconv.Itoa(i), told[i], found[i]); err != nil {
				return err
			}
		}
		return nil
	case string:
		text, is := found.(string)
		if !is || !s.means(told, text) {
			return differs
		}
		return nil
	case float64:
		if number, is := found.(float64); is && s.among && number >= told {
			return nil
		}
	}
	if told != found {
		return differs
	}
	return nil
}

// contains is whether each of what is told is among what was found.
func (s *story) contains(path string, told, found []any) error {
	for _, wanted := range told {
		is := func(one any) bool { return s.same(path, wanted, one) == nil }
		if !slices.ContainsFunc(found, is) {
			return fmt.Errorf("%s: lacks %v", path, wanted)
		}
	}
	return nil
}

func (s *story) means(told, found string) bool {
	if s.among {
		return s.isAmong(told, found)
	}
	if told == "<token>" {
		return found != "" && found != told
	}
	kind := named.FindStringSubmatch(told)
	if kind == nil {
		return told == found
	}
	value, known := s.names[told]
	if name, taken := s.values[found]; known || taken {
		return value == found && name == told
	}
	s.names[told], s.values[found] = found, told
	if kind[1] == "id" {
		return uuid.MatchString(found)
	}
	_, err := time.Parse(time.RFC3339Nano, found)
	return err == nil
}

// isAmong is whether a text stands for another where more is told than the story's own.
func (s *story) isAmong(told, found string) bool {
	if value, known := s.names[told]; known {
		return value == found
	}
	wanted, err := strconv.ParseInt(told, 10, 64)
	number, failed := strconv.ParseInt(found, 10, 64)
	if err == nil && failed == nil {
		return number >= wanted
	}
	return told == found
}

// find answers the method that a step calls.
func find(call string) (protoreflect.MethodDescriptor, error) {
	service, name, _ := strings.Cut(call, "/")
	full := protoreflect.FullName("ose.registry.v1." + service)
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(full)
	if err != nil {
		return nil, err
	}
	method := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	if method == nil {
		return nil, fmt.Errorf("there is no %s", call)
	}
	return method, nil
}

// form is a message as JSON values.
func form(message proto.Message) map[string]any {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		panic(err)
	}
	made := map[string]any{}
	if err := json.Unmarshal(text, &made); err != nil {
		panic(err)
	}
	return made
}

// plain is a value as JSON has it: every number a float64, every list []any, every map[string]any.
func plain(value any) any {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	var made any
	if err := json.Unmarshal(text, &made); err != nil {
		panic(err)
	}
	return made
}

func at(value any, path []string) any {
	for _, part := range path {
		if index, err := strconv.Atoi(part); err == nil {
			value = value.([]any)[index]
		} else {
			value = value.(map[string]any)[part]
		}
	}
	return value
}
