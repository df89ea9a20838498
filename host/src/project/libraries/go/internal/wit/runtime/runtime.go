// Package runtime has what the generated bindings need of the canonical ABI:
// memory that the host fills, memory that the host reads, and handles.
package runtime

import (
	"runtime"
	"syscall"
	"unsafe"
)

// inbox is the memory for what the host passes. It is not the collector's: the
// host asks for memory in the middle of a call, where nothing may call the host,
// and an allocation reads the clock now and then. Pages that are not used cost
// nothing.
//
// Its begin is for what is allocated before Go has begun: the state and the
// stack of the adapter that gives Go its WASI. They cannot lie elsewhere,
// because Go takes all pages that follow its own for its own.
var (
	inbox [4 << 20]byte
	used  uintptr
	floor uintptr
)

func init() { floor = used }

// kept is the memory that a call into the host passes: a pointer in the host's
// form has 32 bits, and the garbage collector does not see it.
var kept []unsafe.Pointer

// static are allocations that stay.
var static []unsafe.Pointer

// cabiRealloc allocates memory for what the host is about to pass.
//
//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	start := (uintptr(unsafe.Pointer(&inbox)) + used + uintptr(align) - 1) &^ (uintptr(align) - 1)
	end := start - uintptr(unsafe.Pointer(&inbox)) + uintptr(size)
	if end > uintptr(len(inbox)) {
		panic("the host passes more than 4 MiB in one event")
	}
	used = end
	made := unsafe.Pointer(start)
	if oldSize > 0 {
		copy(unsafe.Slice((*byte)(made), size), unsafe.Slice((*byte)(old), oldSize))
	}
	return made
}

// Reset ends an event: what the host passed is no longer needed.
func Reset() { used = floor }

// Crash ends the instance if the handler panics, and says why. Go's own way
// would wait for other threads first, which nothing here may.
func Crash() {
	cause := recover()
	if cause == nil {
		return
	}
	text := "of another type"
	switch cause := cause.(type) {
	case error:
		text = cause.Error()
	case string:
		text = cause
	case interface{ String() string }:
		text = cause.String()
	}
	stack := make([]byte, 8<<10)
	stack = stack[:runtime.Stack(stack, false)]
	print("panic: ", text, "\n", string(stack))
	syscall.Exit(2)
}

// allocate returns zeroed memory at an address that is a multiple of 8.
func allocate(size uint32) unsafe.Pointer {
	if size <= 8 {
		return unsafe.Pointer(new(uint64))
	}
	return unsafe.Pointer(unsafe.SliceData(make([]byte, (size+7)&^7)))
}

// Unpin lets go of what was passed.
func Unpin() {
	clear(kept)
	kept = kept[:0]
}

// Pinner keeps what a call into the host passes, until the call returns.
type Pinner struct{}

// Pin keeps memory, which is not on the stack then.
func (*Pinner) Pin(memory unsafe.Pointer) { kept = append(kept, memory) }

// Unpin ends that.
func (*Pinner) Unpin() { Unpin() }

// Allocate allocates memory for a call into the host.
func Allocate(_ *Pinner, size, _ uintptr) unsafe.Pointer {
	made := allocate(uint32(size))
	kept = append(kept, made)
	return made
}

// Static allocates memory that stays.
func Static(size, _ uintptr) unsafe.Pointer {
	made := allocate(uint32(size))
	static = append(static, made)
	return made
}

// Handle is a handle of a resource of the host.
type Handle struct{ value int32 }

// MakeHandle wraps a handle, which is not 0.
func MakeHandle(value int32) *Handle { return &Handle{value} }

// Take returns the handle and forgets it.
func (h *Handle) Take() int32 {
	value := h.Use()
	h.value = 0
	return value
}

// TakeOrNil returns the handle and forgets it; 0 if it was taken before.
func (h *Handle) TakeOrNil() int32 {
	value := h.value
	h.value = 0
	return value
}

// Set sets the handle.
func (h *Handle) Set(value int32) { h.value = value }

// Use returns the handle.
func (h *Handle) Use() int32 {
	if h.value == 0 {
		panic("this was closed, given away, or is of an event that is over")
	}
	return h.value
}
