package dicom

import (
	"compress/flate"
	"io"
	"strings"
)

// Transfer syntax UIDs that decide how a data set is read.
const (
	syntaxImplicit  = "1.2.840.10008.1.2"
	syntaxExplicit  = "1.2.840.10008.1.2.1"
	syntaxDeflated  = "1.2.840.10008.1.2.1.99"
	syntaxBigEndian = "1.2.840.10008.1.2.2"
	syntaxRLE       = "1.2.840.10008.1.2.5"

	syntaxBaseline          = "1.2.840.10008.1.2.4.50"
	syntaxExtended          = "1.2.840.10008.1.2.4.51"
	syntaxSpectral          = "1.2.840.10008.1.2.4.53"
	syntaxProgressive       = "1.2.840.10008.1.2.4.55"
	syntaxLossless          = "1.2.840.10008.1.2.4.57"
	syntaxLosslessSV1       = "1.2.840.10008.1.2.4.70"
	syntaxLS                = "1.2.840.10008.1.2.4.80"
	syntaxLSNear            = "1.2.840.10008.1.2.4.81"
	syntaxJ2KLossless       = "1.2.840.10008.1.2.4.90"
	syntaxJ2K               = "1.2.840.10008.1.2.4.91"
	syntaxHTJ2KLossless     = "1.2.840.10008.1.2.4.201"
	syntaxHTJ2KLosslessRPCL = "1.2.840.10008.1.2.4.202"
	syntaxHTJ2K             = "1.2.840.10008.1.2.4.203"
)

// SyntaxName returns the plain name of a transfer syntax, or the UID itself when it is not a known one.
func SyntaxName(uid string) string {
	switch uid {
	case syntaxImplicit:
		return "implicit VR little endian"
	case syntaxExplicit:
		return "explicit VR little endian"
	case syntaxDeflated:
		return "deflated explicit VR little endian"
	case syntaxBigEndian:
		return "explicit VR big endian"
	case syntaxRLE:
		return "RLE lossless"
	case syntaxBaseline:
		return "JPEG baseline"
	case syntaxExtended:
		return "JPEG extended"
	case syntaxSpectral:
		return "JPEG spectral selection"
	case syntaxProgressive:
		return "JPEG full progression"
	case syntaxLossless:
		return "JPEG lossless"
	case syntaxLosslessSV1:
		return "JPEG lossless, first-order prediction"
	case syntaxLS:
		return "JPEG-LS lossless"
	case syntaxLSNear:
		return "JPEG-LS near-lossless"
	case syntaxJ2KLossless:
		return "JPEG 2000 lossless"
	case syntaxJ2K:
		return "JPEG 2000"
	case syntaxHTJ2KLossless:
		return "HTJ2K lossless"
	case syntaxHTJ2KLosslessRPCL:
		return "HTJ2K lossless RPCL"
	case syntaxHTJ2K:
		return "HTJ2K"
	}
	return uid
}

// nativeSyntax reports whether pixel data of this transfer syntax are stored plainly.
func nativeSyntax(uid string) bool {
	switch uid {
	case syntaxImplicit, syntaxExplicit, syntaxDeflated, syntaxBigEndian:
		return true
	}
	return false
}

// frameDecoder decodes the compressed stream of one frame into little-endian samples of
// BitsAllocated bits, row by row.
type frameDecoder func(stream []byte, h *Header) ([]byte, error)

// decoderFor returns the decoder of a compressed transfer syntax, nil when there is none.
// This is the one place where a codec is entered.
func decoderFor(uid string) frameDecoder {
	switch uid {
	case syntaxRLE:
		return decodeRLE
	case syntaxBaseline, syntaxExtended, syntaxSpectral, syntaxProgressive:
		return decodeJPEGDCT
	case syntaxLossless, syntaxLosslessSV1:
		return decodeJPEGLossless
	case syntaxLS, syntaxLSNear:
		return decodeJPEGLS
	case syntaxJ2KLossless, syntaxJ2K, syntaxHTJ2KLossless, syntaxHTJ2KLosslessRPCL, syntaxHTJ2K:
		return decodeJPEG2000
	}
	return nil
}

// inflate undoes the compression of the deflated transfer syntax (raw deflate, PS3.5 A.5).
func inflate(r io.Reader) io.Reader { return flate.NewReader(r) }

// trimUID strips the padding of a UID value.
func trimUID(b []byte) string { return strings.Trim(string(b), " \x00") }
