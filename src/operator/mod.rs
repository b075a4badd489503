//! Linear degradations H with Hᵀ and H†.
