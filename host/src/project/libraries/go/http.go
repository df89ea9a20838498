package netwasm

import (
	"bytes"
	"strings"

	"github.com/netwasm/netwasm/internal/handlers"
	files "github.com/netwasm/netwasm/internal/wit/netwasm_net_files"
	http "github.com/netwasm/netwasm/internal/wit/netwasm_net_http"
	wit "github.com/netwasm/netwasm/internal/wit/types"
)

// Request is a request. Apart from its fields, it can be read only until the
// handler returns, even if it is deferred.
type Request struct {
	// Method is GET, say.
	Method string
	// Path is the target's path as the client sent it: url.PathUnescape decodes
	// it.
	Path string
	// Query is what follows the question mark: url.ParseQuery takes it apart.
	Query string

	inner    *http.Request
	deferred *uint64
	// now is the response to a deferred request, if it came before the handler
	// returned, and left is true once it has.
	now  *Response
	left bool
}

// Header is a field of a message.
type Header struct{ Name, Value string }

// Response is the answer to a request.
type Response struct {
	// Status is 200 to 599; 0 is 200.
	Status int
	// Headers are the fields. The host adds what frames the message.
	Headers []Header
	// Body are the bytes, unless there is a File or Path.
	Body []byte
	// File is sent by the host, with ranges, conditions and a type.
	File *File
	// Path is the path of a file, for the same; the host answers 404 if there
	// is none.
	Path string
	// Trailers follow the body.
	Trailers []Header
}

// ServeHTTP answers the requests of --http and --https. Call it in init.
func ServeHTTP(answer func(*Request) *Response) {
	handlers.HttpHandler.Handle = func(
		method http.Method, target string, inner *http.Request,
	) http.Answer {
		path, query, _ := strings.Cut(strings.Clone(target), "?")
		r := &Request{Method: name(method), Path: path, Query: query, inner: inner}
		response := answer(r)
		// It was lent for this call.
		inner.Drop()
		r.left = true
		switch {
		case r.now != nil:
			response = r.now
		case r.deferred != nil:
			return http.MakeAnswerDefer(*r.deferred)
		}
		if response == nil {
			response = Text(500, "the handler has no answer\n")
		}
		return http.MakeAnswerRespond(response.wit())
	}
}

// Text makes a response of plain text.
func Text(status int, text string) *Response {
	return typed(status, "text/plain; charset=utf-8", []byte(text))
}

// HTML makes a response of HTML.
func HTML(status int, text string) *Response {
	return typed(status, "text/html; charset=utf-8", []byte(text))
}

// JSON makes a response of JSON, which encoding/json makes.
func JSON(status int, encoded []byte) *Response {
	return typed(status, "application/json", encoded)
}

// Redirect makes a response that leads elsewhere: status 303, say.
func Redirect(status int, location string) *Response {
	return &Response{Status: status, Headers: []Header{{"Location", location}}}
}

func typed(status int, kind string, body []byte) *Response {
	return &Response{Status: status, Headers: []Header{{"Content-Type", kind}}, Body: body}
}

// Add adds a field.
func (r *Response) Add(name, value string) *Response {
	r.Headers = append(r.Headers, Header{name, value})
	return r
}

// Header returns the first value of a field; empty if there is none.
func (r *Request) Header(name string) string {
	value, _ := r.inner.Header(name).Get()
	return string(value)
}

// HeaderValues returns all values of a field.
func (r *Request) HeaderValues(name string) []string {
	var values []string
	for _, value := range r.inner.HeaderValues(name) {
		values = append(values, string(value))
	}
	return values
}

// Headers returns all fields, in order.
func (r *Request) Headers() []Header { return headers(r.inner.Headers()) }

// Trailers returns the fields that followed the body.
func (r *Request) Trailers() []Header { return headers(r.inner.Trailers()) }

// Body returns the whole body.
func (r *Request) Body() []byte { return bytes.Clone(r.inner.Body()) }

// Scheme returns http or https.
func (r *Request) Scheme() string { return strings.Clone(r.inner.Scheme()) }

// Host returns the host and port that were asked for.
func (r *Request) Host() string {
	host, _ := r.inner.Authority().Get()
	return strings.Clone(host)
}

// Info returns the connection's addresses and TLS session.
func (r *Request) Info() Info { return info(r.inner.Info()) }

// deferrals has a function for each request whose client may leave.
var deferrals table[func()]

// Defer postpones the response: what the handler returns is ignored, and a
// later event calls respond. abandoned, which may be nil, is called if the
// client leaves before; respond fails then.
func (r *Request) Defer(abandoned func()) (respond func(*Response) error) {
	if r.deferred != nil {
		panic("the request is deferred already")
	}
	token := deferrals.add(abandoned)
	r.deferred = &token
	over := false
	deferrals.entries[token] = func() {
		over = true
		deferrals.remove(token)
		if abandoned != nil {
			abandoned()
		}
	}
	return func(response *Response) error {
		if over {
			return &Error{InvalidState, "the request is answered, or its client has left"}
		}
		over = true
		deferrals.remove(token)
		if !r.left {
			r.now = response
			return nil
		}
		return failed(http.Respond(token, response.wit()))
	}
}

// File is a file that the host sends without showing it to the guest.
type File struct{ inner *files.File }

// OpenFile opens a file below one of the directories of --dir.
func OpenFile(path string) (*File, error) {
	opened := files.FileOpen(path)
	if opened.IsErr() {
		return nil, told(opened.Err())
	}
	return &File{opened.Ok()}, nil
}

// Size returns the length in bytes.
func (f *File) Size() (int64, error) {
	size := f.inner.Size()
	if size.IsErr() {
		return 0, told(size.Err())
	}
	return int64(size.Ok()), nil
}

// Close closes the file. Parts that are queued are still sent. A file that was
// given away as a response's body is closed by the host.
func (f *File) Close() error {
	f.inner.Drop()
	return nil
}

func (r *Response) wit() http.Response {
	response := http.Response{
		Status:   uint16(r.Status),
		Headers:  fields(r.Headers),
		Body:     http.MakeBodyEmpty(),
		Trailers: fields(r.Trailers),
	}
	if r.Status == 0 {
		response.Status = 200
	}
	switch {
	case r.File != nil:
		response.Body = http.MakeBodyFile(r.File.inner)
	case r.Path != "":
		response.Body = http.MakeBodyPath(r.Path)
	case len(r.Body) > 0:
		response.Body = http.MakeBodyBytes(r.Body)
	}
	return response
}

func fields(from []Header) []wit.Tuple2[string, []uint8] {
	to := make([]wit.Tuple2[string, []uint8], 0, len(from))
	for _, field := range from {
		to = append(to, wit.Tuple2[string, []uint8]{F0: field.Name, F1: []byte(field.Value)})
	}
	return to
}

func headers(from []wit.Tuple2[string, []uint8]) []Header {
	to := make([]Header, 0, len(from))
	for _, field := range from {
		to = append(to, Header{strings.Clone(field.F0), string(field.F1)})
	}
	return to
}

var methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"}

// It does not compile if the methods have changed.
var _ = [1]int{}[len(methods)-int(http.MethodOther)]

func name(method http.Method) string {
	if int(method.Tag()) < len(methods) {
		return methods[method.Tag()]
	}
	return strings.Clone(method.Other())
}

func init() {
	handlers.HttpHandler.Handle = func(_ http.Method, _ string, _ *http.Request) http.Answer {
		panic("nothing called netwasm.ServeHTTP: call it in an init function")
	}
	handlers.ResponseHandler.Writable = func(uint64) {} // No body is streamed.
	handlers.ResponseHandler.Abandoned = func(token uint64) {
		if token < uint64(len(deferrals.entries)) && deferrals.entries[token] != nil {
			deferrals.entries[token]()
		}
	}
}
