// SPDX-License-Identifier: Apache-2.0

package wire

// CodePoints are the numbers that one generation of the multipath drafts uses on the
// wire. The layouts of the frames are the same in all of them. A nil *CodePoints means
// that multipath is not negotiated: its frame types are unknown then.
type CodePoints struct {
	// TransportParameter is the id of initial_max_path_id.
	TransportParameter uint64

	// Error codes of PATH_ABANDON besides NO_ERROR (0).
	ApplicationAbandonPath   uint64
	PathResourceLimitReached uint64
	PathUnstableOrPoor       uint64
	NoCIDAvailableForPath    uint64

	// frames holds the frame types, in the order of multipathFrame.
	frames [numMultipathFrames]uint64
}

// multipathFrame numbers the frame types of the multipath extension.
type multipathFrame uint8

const (
	mpPathAck multipathFrame = iota
	mpPathAckECN
	mpPathAbandon
	mpPathStatusBackup
	mpPathStatusAvailable
	mpPathNewConnectionID
	mpPathRetireConnectionID
	mpMaxPathID
	mpPathsBlocked
	mpPathCIDsBlocked
	numMultipathFrames
)

// Draft21 are the code points of draft-ietf-quic-multipath-19 to -21.
//
// RMP21-4.1-1, RMP21-4.2-1, RMP21-4.2.1-1, RMP21-4.3-1, RMP21-4.4-1, RMP21-4.5-1,
// RMP21-4.6-1, RMP21-4.7-1
var Draft21 = CodePoints{
	TransportParameter:       0x3e,
	ApplicationAbandonPath:   0x3e,
	PathResourceLimitReached: 0x3e75,
	PathUnstableOrPoor:       0x3e76,
	NoCIDAvailableForPath:    0x3e77,
	frames: [numMultipathFrames]uint64{
		mpPathAck:                0x3e,
		mpPathAckECN:             0x3f,
		mpPathAbandon:            0x3e75,
		mpPathStatusBackup:       0x3e76,
		mpPathStatusAvailable:    0x3e77,
		mpPathNewConnectionID:    0x3e78,
		mpPathRetireConnectionID: 0x3e79,
		mpMaxPathID:              0x3e7a,
		mpPathsBlocked:           0x3e7b,
		mpPathCIDsBlocked:        0x3e7c,
	},
}

// Draft15 are the provisional code points of draft-ietf-quic-multipath-14 to -18.
var Draft15 = CodePoints{
	TransportParameter:       0x0f739bbc1b666d0d,
	ApplicationAbandonPath:   0x004150504142414e,
	PathResourceLimitReached: 0x0052534c494d4954,
	PathUnstableOrPoor:       0x00554e5f494e5446,
	NoCIDAvailableForPath:    0x004e4f5f4349445f,
	frames: [numMultipathFrames]uint64{
		mpPathAck:                0x15228c00,
		mpPathAckECN:             0x15228c01,
		mpPathAbandon:            0x15228c05,
		mpPathStatusBackup:       0x15228c07,
		mpPathStatusAvailable:    0x15228c08,
		mpPathNewConnectionID:    0x15228c09,
		mpPathRetireConnectionID: 0x15228c0a,
		mpMaxPathID:              0x15228c0c,
		mpPathsBlocked:           0x15228c0d,
		mpPathCIDsBlocked:        0x15228c0e,
	},
}

// multipathTypes are the canonical types of the multipath frames.
var multipathTypes = [numMultipathFrames]FrameType{
	mpPathAck:                FrameTypePathAck,
	mpPathAckECN:             FrameTypePathAck,
	mpPathAbandon:            FrameTypePathAbandon,
	mpPathStatusBackup:       FrameTypePathStatusBackup,
	mpPathStatusAvailable:    FrameTypePathStatusAvailable,
	mpPathNewConnectionID:    FrameTypePathNewConnectionID,
	mpPathRetireConnectionID: FrameTypePathRetireConnectionID,
	mpMaxPathID:              FrameTypeMaxPathID,
	mpPathsBlocked:           FrameTypePathsBlocked,
	mpPathCIDsBlocked:        FrameTypePathCIDsBlocked,
}

// find returns which multipath frame has the type wireType on the wire.
func (cp *CodePoints) find(wireType uint64) (multipathFrame, bool) {
	if cp == nil { // RMP21-2-1
		return 0, false
	}
	for i, t := range cp.frames {
		if t == wireType {
			return multipathFrame(i), true
		}
	}
	return 0, false
}

// appendType appends the type of a multipath frame.
func (cp *CodePoints) appendType(b []byte, f multipathFrame) []byte {
	return AppendVarint(b, cp.frames[f])
}
