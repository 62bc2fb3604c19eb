package record

// The layout of the maps: each type is that of the same name in
// bpf/record.bpf.c, byte by byte.

const (
	abiSlots = 640
	slots    = 3 * abiSlots
	odd      = abiSlots - 1 // of each ABI: all numbers from here on
	noSlot   = 1<<32 - 1

	argMemory = 0x80 // argument 0 points to the value
	seats     = 1 << 13
	values    = 16 // kept of one argument
	frames    = 16 // kept of one check of a capability
)

// What a target is matched by.
const (
	byCgroup = iota
	byMountNS
	byPIDNS
	byProcess
)

// Why a call was denied.
const (
	bySeccomp = iota
	byCapability
)

// lostNames are the maps whose updates can fail.
var lostNames = [...]string{"tasks", "numbers", "denials", "capabilities", "stacks"}

type mapRecording struct {
	Session, Running uint32
}

type mapSeen struct {
	Slots     [slots / 64]uint64
	UserNS, _ uint32
}

type mapTarget struct {
	Recording, Session, AtExec uint32
}

type mapTargetKey struct {
	ID      uint64
	Kind, _ uint32
}

type mapSeat struct {
	Regs       uint64
	Crowded, _ uint32
	_          [10]uint64 // of the task: only the programs know
}

type mapCount struct {
	Startup, Running, Blocked uint64
}

type mapFirst struct {
	Time       uint64 // CLOCK_MONOTONIC, ns
	PID, Taken uint32
	Program    [16]byte
	Thread     [16]byte
}

type mapOddKey struct {
	Session, ABI, Nr uint32
}

type mapArgset struct {
	Values     [values]uint64 // plus 1; 0: free
	More, Ones uint8
	_          [6]uint8
}

type mapDenialKey struct {
	Refused           uint64
	Session, Slot, Nr uint32
	Error             uint32
	Program           [16]byte
	Reason, Killed    uint8
	_                 [6]uint8
}

type mapDenial struct {
	Count, Time uint64
	Args        [6]uint64
	PID, _      uint32
	Thread      [16]byte
}

type mapCapabilityKey struct {
	Stack             [frames]uint64
	Session, Slot, Nr uint32
	UserNS            uint32
	Program           [16]byte
	Cap, OtherCred    uint8
	_                 [6]uint8
}

type mapCapability struct {
	Granted, Refused uint64
}
