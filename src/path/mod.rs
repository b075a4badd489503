//! Probability paths x_t = α_t x₁ + σ_t x₀ and parametrisations of the velocity.
